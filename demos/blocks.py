"""A page whose visitors can only access their own files: the single check of every path in a request, in any form."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.server_messages import ServerMessage

from demos.browser import InBrowser
from demos.payloads import AS_A_FILE, NOT_YOURS, Camera
from demos.rooms import KEEP_SECONDS, SWEEP_SECONDS
from demos.visitors import Visitor, Visitors

MAX_WAITING = 8  # requests of one visitor for one thing, such as tables of many photos
MAX_WAITING_IN_ALL = 24  # requests from one address; the queue has place for more, so others get in
MAX_FILES, MAX_DEPTH = 1000, 3  # in one request
MAX_UNREAD = 100  # requests from one address whose answers were not fetched: they are kept in memory
FILE_KEYS = {"path", "url"}  # a dict that has one of them is a file object


def refused(words: str) -> gr.Error:
    """An error that only the sender sees; the console does not show it."""
    return gr.Error(words, title="This did not work", print_exception=False)


def _sender(request: Any) -> Visitor:
    return request.request.scope["visitor"]


def files_in(value: Any) -> Iterator[str]:
    """The paths of all file objects in an answer."""
    if isinstance(value, dict):
        if isinstance(value.get("path"), str):
            yield value["path"]
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from files_in(one)


def forget_frames(messages: asyncio.Queue[Any], event: str) -> None:
    """Remove a camera's answers that its browser has not fetched yet: on a slow line they would accumulate."""
    waiting = [messages.get_nowait() for _ in range(messages.qsize())]
    for one in waiting:
        if one.event_id != event or one.msg != ServerMessage.process_streaming:
            messages.put_nowait(one)


class Page(gr.Blocks):
    """Gradio's page; every request for any of its functions, public or private, passes `process_api`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.visitors = Visitors()
        self.in_browser = InBrowser(self.visitors)
        self._asked: dict[str, tuple[float, str]] = {}  # when each session asked last, and its address
        super().__init__(*args, **options)

    def shared_files(self) -> frozenset[Path]:
        """The page's own files that everybody may use: its example pictures."""
        kept = (path for block in self.blocks.values() for path in getattr(block, "keep_in_cache", ()))
        return frozenset(Path(path).resolve() for path in kept)

    def queue(self, *args: Any, **options: Any) -> "Page":
        """Gradio's queue, with a limit per visitor."""
        super().queue(*args, **options)
        push = self._queue.push

        async def push_fairly(body: Any, request: Any, username: str | None) -> Any:
            visitor: Visitor = request.scope["visitor"]
            if body.fn_index not in self.fns or len(body.data) < len(self.fns[body.fn_index].inputs):
                return False, "There is no such function, or inputs are missing.", "error"
            session = body.session_hash
            if session == "" or (session and not self.visitors.may_use(f"session {session}", visitor, first_come=True)):
                return False, "This session is another visitor's.", "error"
            if (waiting := self._waiting(visitor, body.fn_index)) is not None:
                words = f"You have {waiting} requests waiting: send more when they are done."
                return False, words, "queue_full"
            if self._unread(visitor) >= MAX_UNREAD:
                return False, "Get the answers to what you sent before you send more.", "queue_full"
            success, event, state = await push(body=body, request=request, username=username)
            if success:
                self.visitors.give(f"event {event}", visitor)
                self._asked[session or str(event)] = time.monotonic(), visitor.address
            return success, event, state

        self._queue.push = push_fairly  # type: ignore[method-assign]
        send = self._queue.send_message

        def send_newest(event: Any, event_message: Any) -> None:
            if event.alive and event_message.msg == ServerMessage.process_streaming:
                forget_frames(self._queue.pending_messages_per_session[event.session_hash], event._id)
            send(event, event_message)

        self._queue.send_message = send_newest  # type: ignore[method-assign]
        return self

    def _waiting(self, visitor: Visitor, index: int | None) -> int | None:
        """How many requests of a visitor wait, if these are too many; else None."""
        queues = self._queue.event_queue_per_concurrency_id
        events = [(name, event) for name, queue in queues.items() for event in list(queue.queue)]
        theirs = [(name, event) for name, event in events if event.request.scope["visitor"].keys & visitor.keys]
        wanted = self.fns[index].concurrency_id if index in self.fns else None
        of_kind = sum(name == wanted for name, _ in theirs)
        if of_kind >= MAX_WAITING:
            return of_kind
        there = sum(event.request.scope["visitor"].address == visitor.address for _, event in events)
        return there if there >= MAX_WAITING_IN_ALL else None

    def _unread(self, visitor: Visitor) -> int:
        """How many requests from an address have no answer, or one that nobody has got; old answers are removed."""
        pending, events = self._queue.pending_messages_per_session, self._queue.pending_event_ids_session
        for session, (when, _) in list(self._asked.items()):
            running = any(one in self._queue.event_ids_to_events for one in events.get(session, ()))
            if session not in pending or (not running and when < time.monotonic() - KEEP_SECONDS):
                pending.pop(session, None)
                events.pop(session, None)
                del self._asked[session]
        return sum(len(events.get(one, ())) for one, (_, address) in self._asked.items() if address == visitor.address)

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **options: Any) -> Any:
        """What a function takes, from what was sent; what does not fit is told to its sender, and to no console."""
        try:
            return await super().preprocess_data(block_fn, inputs, *args, **options)
        except gr.Error as error:
            raise refused(str(error.message)[:300]) from None
        except Exception:  # of Gradio's components, which take what its pages send
            raise refused("The inputs do not fit this function.") from None

    async def process_api(self, block_fn: Any, inputs: list[Any], *args: Any, **options: Any) -> dict[str, Any]:
        """Run a function on what was sent, if all its files are the visitor's, who may then use those of the answer."""
        request = options.get("request")
        visitor: Visitor | None = _sender(request) if isinstance(request, gr.Request) else None
        function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        if visitor is not None and isinstance(inputs, list):
            try:
                json.dumps(inputs, ensure_ascii=False).encode()
            except (ValueError, RecursionError):  # halves of letters, of which no answer can be made
                raise refused("The request has invalid characters, or is nested too deeply.") from None
            shared, blocks = self.shared_files(), [*function.inputs, *[None] * len(inputs)]
            inputs = [self._checked(blocks[i], one, visitor, shared) for i, one in enumerate(inputs)]
        answer = await super().process_api(block_fn, inputs, *args, **options)
        if (state := options.get("state")) is not None:
            for block in [*function.inputs, *function.outputs]:  # it would be kept for deep links
                state._update_value_in_config(block._id, None)
        if visitor is not None:
            for path in files_in(answer.get("data")):
                self.visitors.give(str(Path(path).resolve()), visitor)
        return answer

    def _checked(self, block: Any, sent: Any, visitor: Visitor, shared: frozenset[Path]) -> Any:
        """What was sent for a component, its file objects with their real paths and without anything not needed."""
        left = [MAX_FILES]

        def walk(value: Any, depth: int) -> Any:
            if not isinstance(value, (dict, list)):
                return value
            if depth > MAX_DEPTH:
                raise refused("The request is nested too deeply.")
            if isinstance(value, list):
                return [walk(one, depth + 1) for one in value]
            if not FILE_KEYS & value.keys():
                return {key: walk(one, depth + 1) for key, one in value.items()}
            left[0] -= 1
            if left[0] < 0:
                raise refused(f"Send at most {MAX_FILES:,} files at once.")
            return self._file(block, value, visitor, shared)

        if isinstance(sent, str) and getattr(block, "data_model", None) is not None:
            raise refused(NOT_YOURS)
        if isinstance(block, gr.Dataset) and type(sent) is not int:
            raise refused("There is no such example.")
        return walk(sent, 0)

    def _file(self, block: Any, sent: dict[str, Any], visitor: Visitor, shared: frozenset[Path]) -> dict[str, Any]:
        meta = {"meta": {"_type": "gradio.FileData"}, "is_stream": False}
        path, url = sent.get("path"), sent.get("url")
        if isinstance(url, str) and url.startswith("data:") and isinstance(block, Camera):
            return {"path": None, "url": url, **meta}
        if path is None and isinstance(url, str):
            raise refused(AS_A_FILE)
        real = self.visitors.may_read(path, visitor, shared) if isinstance(path, str) else None
        if real is None:
            raise refused(NOT_YOURS)
        name = sent.get("orig_name")
        return {"path": str(real), "orig_name": name[:255] if isinstance(name, str) else None, **meta}


def new_blocks(title: str) -> Page:
    """An empty page whose uploads are removed after `KEEP_SECONDS`."""
    return Page(title=title, analytics_enabled=False, delete_cache=(SWEEP_SECONDS, KEEP_SECONDS))
