"""A visitor who speaks with a page by hand, without Gradio's own client, which would mend what is sent."""

import json
from pathlib import Path
from typing import Any

import gradio as gr
import httpx

from demos.chooser import example_pictures

PHOTO = example_pictures("detection")[0]
FILE = {"meta": {"_type": "gradio.FileData"}}


class Visitor:
    """Somebody with cookies of their own."""

    def __init__(self, page: gr.Blocks, session: str, *, auth: tuple[str, str] | None = None) -> None:
        self.page, self.session = page, session
        self.web = httpx.Client(base_url=str(page.local_url), timeout=60)
        if auth:
            self.web.post("login", data={"username": auth[0], "password": auth[1]})
        assert self.web.get("config").status_code == 200

    def upload(self, path: Path = PHOTO) -> str:
        return self.web.post("gradio_api/upload", files={"files": (path.name, path.read_bytes())}).json()[0]

    def join(self, index: int, data: list[Any], session: str | None = None) -> httpx.Response:
        body = {"fn_index": index, "data": data, "session_hash": session or self.session}
        return self.web.post("gradio_api/queue/join", json=body)

    def ask(self, index: int, data: list[Any]) -> dict[str, Any]:
        """The last message of one of the page's functions, which has its "success" and its "output"."""
        if not self.page.fns[index].queue:
            body = {"fn_index": index, "data": data, "session_hash": self.session}
            answer = self.web.post("gradio_api/run/predict", json=body)
            return {"success": answer.status_code == 200, "output": answer.json()}
        joined = self.join(index, data)
        if joined.status_code != 200:
            return {"success": False, "output": joined.json()}
        if self.page.fns[index].connection == "stream":
            self.web.post(f"gradio_api/stream/{joined.json()['event_id']}/close")  # after one frame
        return self.answer(joined.json()["event_id"])

    def answer(self, event: str, session: str | None = None) -> dict[str, Any]:
        """The last message about a request."""
        return self.messages(event, session)[-1]

    def messages(self, event: str, session: str | None = None) -> list[dict[str, Any]]:
        """All messages about a request that wait, and those that come until it is done."""
        got: list[dict[str, Any]] = []
        with self.web.stream("GET", "gradio_api/queue/data", params={"session_hash": session or self.session}) as lines:
            for line in lines.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                got += [message] if message.get("event_id") == event else []
                if got and got[-1]["msg"] == "process_completed":
                    return got
        raise AssertionError("no answer came")

    def function(self, name: str) -> int:
        """The index of the first function whose name begins so."""
        return next(i for i, one in self.page.fns.items() if str(one.api_name).startswith(name))

    def photo(self, sent: Any) -> dict[str, Any]:
        """What the detector's photo tab answers."""
        return self.ask(self.function("detect"), [sent, "given: detection", 0.3, [], None])
