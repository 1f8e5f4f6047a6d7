"""Check every request to a page before Gradio handles it."""

import asyncio
import contextlib
import functools
import ipaddress
import json
import os
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse

from demos.rooms import KEEP_SECONDS, SWEEP_SECONDS
from demos.visitors import COOKIE, Stored, Visitor, visitor_of

MAX_BODY_BYTES = 15_000_000  # of all requests but uploads
MAX_DRAINED_BYTES, DRAIN_SECONDS = 400_000_000, 10.0  # of a body that is refused, so that its sender gets to the answer
MAX_HELD_BYTES, MAX_HELD_BYTES_OF_ALL = 100_000_000, 400_000_000  # of such bodies at once, of one address and of all
MAX_OPEN, MAX_OPEN_OF_ALL = 200, 800  # requests at once, of one address and of all: a page keeps two open
MAX_PARTS = 50_000  # of what JSON lists: in memory each takes many times its bytes
TOO_LARGE = "This is too large: at most 15 MB are accepted."
API = "/gradio_api/"
# What the page and gradio_client ask for. Gradio has more: it would fetch from other servers and write elsewhere.
OPEN = re.compile(
    r"/|/(config|login|logout|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?|/(assets|static|svelte)/[\w.@/+-]{1,200}|/gradio_api/"
    r"((info|openapi\.json|user|login_check|token|app_id|startup-events|theme\.css|upload_progress|cancel|reset)/?|upload"
    r"|queue/(join|data|status)|(call|run|api)/.*|heartbeat/[^/]+|stream/[^/]+(/close)?|file[=/].*)"
)


unfinished: ContextVar[list[str]] = ContextVar("unfinished")  # the files that an upload has begun


@functools.cache
def note_unfinished() -> None:
    """Have Gradio's reader of uploads note the temporary files it begins: it leaves them where an upload breaks off."""
    from gradio import route_utils

    make_file: Any = route_utils.NamedTemporaryFile

    def noted_file(*args: Any, **options: Any) -> Any:
        file = make_file(*args, **options)
        unfinished.get([]).append(file.name)
        return file

    route_utils.NamedTemporaryFile = noted_file

    class FilesAlone(route_utils.GradioMultiPartParser):
        """Without fields that are no files: these would be kept in memory, however long."""

        def on_headers_finished(self) -> None:
            super().on_headers_finished()
            if self._current_part.file is None:
                raise MultiPartException("Send only files, each with its name.")

    route_utils.GradioMultiPartParser = FilesAlone  # type: ignore[misc]


class Hosts:
    """By which names a page is reached, for `sites` also by browsers whose proxy sends another name.

    With `any_address` also by every IP address: other web sites can take a name for theirs, but no address.
    """

    def __init__(self, names: Iterable[str], *, sites: Iterable[str] = (), any_address: bool = False) -> None:
        self.sites = {name.lower() for name in sites}
        self.names = {name.lower().strip("[]") for name in names} | {"localhost"}
        self.any_address = any_address

    def have(self, netloc: str) -> bool:
        """Whether a page is reached by this "name:port"."""
        found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", netloc.lower())
        name = found[1].strip("[]").removesuffix(".") if found else ""
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name in self.names | self.sites
        return self.any_address or address.is_loopback or name in self.names


class Guard:
    """Stands before the app: who asks, by which name, from which site, for what, and how much is sent."""

    def __init__(self, page: Any, hosts: Hosts, *, max_upload_bytes: int, on_space: bool = False) -> None:
        note_unfinished()
        self.visitors, self.shared, self.hosts = page.visitors, page.shared_files, hosts
        self.in_browser = page.in_browser
        self.max_upload_bytes, self.on_space = max_upload_bytes, on_space
        self.held: Counter[str] = Counter()  # bytes by address
        self.open: Counter[str] = Counter()  # requests by address that are not answered to the end
        self.stored = Stored(KEEP_SECONDS + SWEEP_SECONDS)
        self.app: Any = None

    @asynccontextmanager
    async def lifespan(self, app: Any) -> Any:
        """When the server starts: put this in place of what answers and prints errors, before all of Gradio's."""
        assert isinstance(app.middleware_stack, ServerErrorMiddleware)
        self.app, app.middleware_stack = app.middleware_stack.app, self
        yield

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":  # there are no websockets here
            return None
        request = Request(scope)
        visitor = scope["visitor"] = visitor_of(scope, request.cookies, on_space=self.on_space)
        if self.open[visitor.address] >= MAX_OPEN or self.open.total() >= MAX_OPEN_OF_ALL:
            return await refuse(503, "Too many requests are open.", scope, receive, send, more=False)
        self.open[visitor.address] += 1
        begun = False

        async def noted(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._answer(request, visitor, scope, receive, noted)
        except Exception as error:  # of Gradio's code, which takes what its pages send
            if not isinstance(error.__cause__, HTTPException):  # which it has told: a session that is not there
                at = traceback.extract_tb(error.__traceback__)[-1]
                print(f"{scope['path']!r:.100}: {type(error).__name__} in {at.filename}:{at.lineno}", file=sys.stderr)
            if begun:
                return await send({"type": "http.response.body"})
            await refuse(400, "This request cannot be answered.", scope, receive, send, more=False)
        finally:
            self.open[visitor.address] -= 1
            if not self.open[visitor.address]:
                del self.open[visitor.address]

    async def _answer(self, request: Request, visitor: Visitor, scope: Any, receive: Any, send: Any) -> None:
        if words := self._problem(request):
            return await refuse(403, words, scope, receive, send)
        if scope["method"] in ("GET", "HEAD") and (answer := self.in_browser.find(scope["path"], visitor)):
            return await answer(scope, receive, send)
        if not OPEN.fullmatch(scope["path"]):
            return await refuse(404, "There is nothing here.", scope, receive, send)
        if not self._is_theirs(request, visitor):
            return await refuse(403, "This is another visitor's.", scope, receive, send)
        way = self._upload if scope["path"] == f"{API}upload" else self._other
        return await way(scope, receive, with_cookie(send, visitor, framed=self.on_space))

    def _problem(self, request: Request) -> str:
        hosts, origins = (request.headers.getlist(name) for name in ("host", "origin"))
        if len(hosts) != 1 or not self.hosts.have(hosts[0]):
            return "This page is not reached by this host name: whoever runs it may add it with --public-host."
        ours = {f"{way}://{name}" for way in ("http", "https") for name in (hosts[0].lower(), *self.hosts.sites)}
        if not ours.issuperset(origin.lower() for origin in origins):
            return "This page does not answer other web sites."
        return ""

    def _is_theirs(self, request: Request, visitor: Visitor) -> bool:
        """Whether a file, a session or an answer that is asked for by name is this visitor's."""
        path = request.scope["path"].removeprefix(API)
        if path.startswith(("file=", "file/")):
            return self.visitors.may_read(path[len("file=") :], visitor, self.shared()) is not None
        if path.startswith("call/") and request.method == "GET":
            return self.visitors.may_use(f"event {path.rstrip('/').rpartition('/')[2]}", visitor)
        if path.startswith("stream/"):
            return self.visitors.may_use(f"event {path.split('/')[1]}", visitor)
        asked = path.startswith("heartbeat/") and path.removeprefix("heartbeat/")
        session = asked or request.query_params.get("session_hash")
        return session is None or self.visitors.may_use(f"session {session}", visitor, first_come=True)

    def _may_cancel(self, body: bytes | bytearray, visitor: Visitor) -> bool:
        """Whether the session and the request that are to end, which the body names, are this visitor's."""
        try:
            asked = json.loads(body)
            named = [f"{kind} {asked[key]}" for kind, key in (("session", "session_hash"), ("event", "event_id"))]
        except (ValueError, LookupError, TypeError, RecursionError):
            return False
        return all(self.visitors.may_use(name, visitor) for name in named)

    async def _other(self, scope: Any, receive: Any, send: Any) -> None:
        """A request whose body is read before it is passed on."""
        body, more, num_parts, address = bytearray(), True, 0, scope["visitor"].address
        problem = (413, TOO_LARGE) if declared(scope) > MAX_BODY_BYTES else None
        try:
            while more and not problem:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                part = message.get("body", b"")
                body += part
                self.held[address] += len(part)
                num_parts += sum(part.count(mark) for mark in b"[{,")
                more = message.get("more_body", False)
                if len(body) > MAX_BODY_BYTES:
                    problem = 413, TOO_LARGE
                elif self.held[address] > MAX_HELD_BYTES or self.held.total() > MAX_HELD_BYTES_OF_ALL:
                    problem = 503, "Too much is being sent at once."
                elif num_parts > MAX_PARTS:
                    problem = 413, f"This has too many parts: at most {MAX_PARTS:,} are accepted."
            if not problem and scope["path"].rstrip("/") == f"{API}cancel":
                problem = None if self._may_cancel(body, scope["visitor"]) else (403, "This is another visitor's.")
            if not problem:
                return await self._pass_on(bytes(body), scope, receive, send)
        finally:
            self.held[address] -= len(body)
            if not self.held[address]:
                del self.held[address]
        return await refuse(*problem, scope, receive, send, more=more)

    async def _pass_on(self, body: bytes, scope: Any, receive: Any, send: Any) -> None:
        read = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Any:
            return next(read, None) or await receive()

        return await self.app(scope, again, send)

    async def _upload(self, scope: Any, receive: Any, send: Any) -> None:
        """An upload, which streams; the files in the answer are the visitor's."""
        if not 0 < declared(scope) <= self.max_upload_bytes:  # the server holds senders to what they declare
            return await refuse(413, "Send at most 2 GB at once, and say how much.", scope, receive, send)
        if problem := self.stored.count(declared(scope), scope["visitor"]):
            return await refuse(413, problem, scope, receive, send)
        answer, status, files = bytearray(), 0, list[str]()

        async def seen(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            answer.extend(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body") and status == 200:
                for path in json.loads(answer):
                    self.visitors.give(str(Path(path).resolve()), scope["visitor"])
            await send(message)

        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]  # `seen` reads it
        begun = unfinished.set(files)
        try:
            with contextlib.suppress(ClientDisconnect):
                await self.app({**scope, "headers": plain}, receive, seen)
        finally:
            unfinished.reset(begun)
            for name in files:  # those that are whole have another name
                with contextlib.suppress(OSError):
                    os.unlink(name)
            if status != 200:
                self.stored.forget(declared(scope), scope["visitor"])


async def refuse(status: int, words: str, scope: Any, receive: Any, send: Any, *, more: bool = True) -> None:
    """Answer in a sentence, after what is still being sent was thrown away: else its sender does not read it."""
    left, end = MAX_DRAINED_BYTES, time.monotonic() + DRAIN_SECONDS
    with contextlib.suppress(TimeoutError):
        while more and left > 0:
            message = await asyncio.wait_for(receive(), max(0.1, end - time.monotonic()))
            left, more = left - len(message.get("body", b"")), message.get("more_body", False)
    await PlainTextResponse(words, status_code=status, headers={"Connection": "close"})(scope, receive, send)


def declared(scope: Any) -> int:
    """How many bytes a request says that it has."""
    headers = dict(scope["headers"])
    words = headers.get(b"content-length", b"0")
    return int(words) if words.isdigit() and b"transfer-encoding" not in headers else 0  # the second, if there, counts


def with_cookie(send: Any, visitor: Visitor, *, framed: bool) -> Any:
    """`send`, whose answers bring a new visitor their cookie; `framed` as Spaces show pages."""
    cookie = f"{COOKIE}={visitor.cookie}; Path=/; HttpOnly; SameSite={'None; Secure; Partitioned' if framed else 'Lax'}"

    async def sent(message: Any) -> None:
        if message["type"] == "http.response.start" and visitor.cookie:
            message = {**message, "headers": [*message.get("headers", ()), (b"set-cookie", cookie.encode())]}
        await send(message)

    return sent
