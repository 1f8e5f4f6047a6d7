"""The door of a page: what a request must be before any of Gradio's code sees it."""

import asyncio
import ipaddress
import json
import re
import time
from collections.abc import Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse

from demos.visitors import COOKIE, Visitor, Visitors, visitor_of

MAX_BODY_BYTES = 15_000_000  # of all requests but uploads
MAX_DRAINED_BYTES, DRAIN_SECONDS = 400_000_000, 10.0  # of a body that is refused, so that its sender gets to the answer
API = "/gradio_api/"
# What the page and gradio_client ask for. Gradio has more: it would fetch from other servers and write elsewhere.
OPEN = re.compile(
    r"/|/(config|login|logout|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?|/(assets|static|svelte)/.*|/gradio_api/"
    r"((info|openapi\.json|user|login_check|token|app_id|startup-events|theme\.css|upload|upload_progress|cancel|reset)/?"
    r"|queue/(join|data|status)|(call|run|api)/.*|heartbeat/[^/]+|stream/[^/]+(/close)?|file[=/].*)"
)


class Hosts:
    """By which names a page is reached.

    Args:
        names: host names.
        sites: names by which browsers reach it where a proxy sends its requests under another.
        any_address: also by every IP address, which no other web site can take for its own as it can a name.
    """

    def __init__(self, names: Iterable[str], *, sites: Iterable[str] = (), any_address: bool = False) -> None:
        self.sites = {name.lower() for name in sites}
        self.names = {name.lower().strip("[]") for name in names} | self.sites | {"localhost"}
        self.any_address = any_address

    def add_site(self, name: str | None) -> None:
        """Take in one more, if there is one."""
        if name:
            self.sites.add(name)
            self.names.add(name)

    def have(self, name: str) -> bool:
        """Whether a page is reached by this name or address."""
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.any_address or address.is_loopback


def host_name(netloc: str) -> str:
    """The name or address in "name:port"; empty if it is none."""
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", netloc.lower())
    return found[1].strip("[]").removesuffix(".") if found else ""


class Guard:
    """Stands before the app: who asks, by which name, from which site, for what, and how much is sent."""

    def __init__(
        self, visitors: Visitors, hosts: Hosts, *, shared: Any, max_upload_bytes: int, on_space: bool = False
    ) -> None:
        self.visitors, self.hosts, self.shared = visitors, hosts, shared
        self.max_upload_bytes, self.on_space = max_upload_bytes, on_space
        self.app: Any = None

    @asynccontextmanager
    async def lifespan(self, app: Any) -> Any:
        """When the server starts: put this before everything that Gradio has put before the app."""
        self.app, app.middleware_stack = app.middleware_stack, self
        yield

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":  # there are no websockets here
            return
        request = Request(scope)
        visitor = scope["visitor"] = visitor_of(scope, request.cookies, by_address=not self.on_space)
        if words := self._problem(request):
            await self._refuse(403, words, scope, receive, send)
        elif not OPEN.fullmatch(request.url.path if request.url.path == scope["path"] else scope["path"]):
            await self._refuse(404, "There is nothing here.", scope, receive, send)
        elif not self._is_theirs(request, visitor):
            await self._refuse(403, "This is another visitor's.", scope, receive, send)
        elif scope["path"].rstrip("/") == f"{API}upload":
            await self._upload(scope, receive, send, visitor)
        else:
            await self._other(scope, receive, send, visitor)

    def _problem(self, request: Request) -> str:
        hosts, origins = (request.headers.getlist(name) for name in ("host", "origin"))
        if len(hosts) != 1 or not self.hosts.have(host_name(hosts[0])):
            return "This page is not reached by this host name: whoever runs it may add it with --public-host."
        for origin in origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or parts.netloc.lower() not in {
                hosts[0].lower(),
                *self.hosts.sites,
            }:
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
        session = request.query_params.get("session_hash")
        if path.startswith("heartbeat/"):
            session = path.removeprefix("heartbeat/")
        return session is None or self.visitors.may_use(f"session {session}", visitor, first_come=True)

    async def _other(self, scope: Any, receive: Any, send: Any, visitor: Visitor) -> None:
        """A request whose body is read before it is passed on."""
        if _declared(scope) > MAX_BODY_BYTES:
            return await self._refuse(413, _too_large(MAX_BODY_BYTES), scope, receive, send)
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_BODY_BYTES:
                return await self._refuse(413, _too_large(MAX_BODY_BYTES), scope, receive, send)
        read = False

        async def again() -> Any:
            nonlocal read
            if read:
                return await receive()
            read = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self.app(scope, again, _with_cookie(send, visitor, secure=self.on_space))
        return None

    async def _upload(self, scope: Any, receive: Any, send: Any, visitor: Visitor) -> None:
        """An upload: counted while it streams; the files in the answer are the visitor's."""
        if _declared(scope) > self.max_upload_bytes:
            return await self._refuse(413, _too_large(self.max_upload_bytes), scope, receive, send)
        num_bytes, answer, status = 0, bytearray(), 0

        async def counted() -> Any:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            return {"type": "http.disconnect"} if num_bytes > self.max_upload_bytes else message

        async def seen(message: Any) -> None:
            nonlocal status
            if num_bytes > self.max_upload_bytes:
                return
            status = message.get("status", status)
            answer.extend(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body") and status == 200:
                for path in json.loads(answer):
                    self.visitors.give(str(Path(path).resolve()), visitor)
            await outward(message)

        outward = _with_cookie(send, visitor, secure=self.on_space)
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]  # `seen` reads it
        try:
            await self.app({**scope, "headers": plain}, counted, seen)
        except Exception:
            if num_bytes <= self.max_upload_bytes:
                raise
        if num_bytes > self.max_upload_bytes:
            await self._refuse(413, _too_large(self.max_upload_bytes), scope, receive, send)
        return None

    async def _refuse(self, status: int, words: str, scope: Any, receive: Any, send: Any) -> None:
        """Answer in a sentence, after what is still being sent was thrown away."""
        left, end = MAX_DRAINED_BYTES, time.monotonic() + DRAIN_SECONDS
        try:
            while left > 0 and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                message = await asyncio.wait_for(receive(), max(0.1, end - time.monotonic()))
                left -= len(message.get("body", b""))
                if not message.get("more_body") or time.monotonic() > end:
                    break
        except TimeoutError:
            pass
        answer = PlainTextResponse(words, status_code=status, headers={"Connection": "close"})
        await answer(scope, receive, send)


def _with_cookie(send: Any, visitor: Visitor, *, secure: bool) -> Any:
    """`send`, whose answers bring a new visitor their cookie."""
    more = "SameSite=None; Secure; Partitioned" if secure else "SameSite=Lax"  # Spaces are shown in a frame
    cookie = f"{COOKIE}={visitor.cookie}; Path=/; HttpOnly; {more}".encode()

    async def sent(message: Any) -> None:
        if message["type"] == "http.response.start" and visitor.cookie:
            message = {**message, "headers": [*message.get("headers", ()), (b"set-cookie", cookie)]}
        await send(message)

    return sent


def _declared(scope: Any) -> int:
    """How many bytes a request says that it has."""
    words = dict(scope["headers"]).get(b"content-length", b"0")
    return int(words) if words.isdigit() else 0


def _too_large(limit: int) -> str:
    return f"This is too large: at most {limit / 1e6:,.0f} MB are taken."
