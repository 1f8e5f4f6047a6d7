"""Access control: visitors may only use their own uploads, results, sessions and answers."""

import ipaddress
import os
import re
import secrets
import shutil
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

COOKIE = "mobilenet-visitor"
KNOWN = re.compile(r"[A-Za-z0-9_-]{22,64}")
MAX_NAMES, MAX_LETTERS = 50_000, 1000  # names that are remembered, and of each: visitors choose those of sessions
MAX_STORED_BYTES, MAX_STORED_BYTES_OF_ALL = 4_000_000_000, 16_000_000_000  # uploads of a visitor, of all
LEAST_FREE_BYTES = 1_000_000_000  # of the disk, that are left


class Visitor(NamedTuple):
    """Somebody who sends requests.

    Attributes:
        keys: what is theirs: that of their cookie, or `place` for programs that keep no cookies.
        address: where they are, by which requests are limited; of IPv6 the network of 64 bits, which is one customer's.
        place: the key of all programs without cookies at their address.
        cookie: a new one that they are given with the answer; empty if they have one.
    """

    keys: frozenset[str]
    address: str
    place: str
    cookie: str = ""


def visitor_of(scope: Mapping[str, Any], cookies: Mapping[str, str], *, on_space: bool = False) -> Visitor:
    """Who sends a request.

    Args:
        scope: the request's, as ASGI has it.
        on_space: behind the proxies of a Space, which say in a header where a request came from. That limits requests;
            it gives nobody anything, since senders can write such headers, too.
    """
    address = str((scope.get("client") or ("nowhere",))[0])
    place = "at anywhere" if on_space else f"at {address}"
    if on_space:
        address = _forwarded(scope) or address
    if (found := _as_address(address)) and found.version == 6 and found.is_global:
        address = str(ipaddress.ip_network((found, 64), strict=False))
    cookie = cookies.get(COOKIE, "")
    if KNOWN.fullmatch(cookie):
        return Visitor(frozenset({cookie}), address, place)
    return Visitor(frozenset({place}), address, place, secrets.token_urlsafe(16))


def _forwarded(scope: Mapping[str, Any]) -> str:
    """The last address of the internet in X-Forwarded-For: proxies write theirs behind what a sender wrote."""
    words = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
    found = (_as_address(word.strip()) for word in reversed(words.split(",")))
    return next((str(one) for one in found if one and one.is_global), "")


def _as_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


class Stored:
    """How much was sent within the `seconds` that uploads are kept, so that nobody fills the disk."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.sent: list[tuple[float, Visitor, int]] = []

    def count(self, num_bytes: int, visitor: Visitor) -> str:
        """Count what a visitor sends; the reason where it is too much, and then it is not counted."""
        now, names = time.monotonic(), visitor.keys | {visitor.cookie} - {""}
        self.sent = [one for one in self.sent if one[0] > now - self.seconds]
        theirs = sum(size for _, one, size in self.sent if names & (one.keys | {one.cookie}))
        if theirs + num_bytes > MAX_STORED_BYTES:
            return f"You have sent {theirs / 1e9:.1f} GB in ten minutes: send more when these are deleted."
        free = shutil.disk_usage(os.environ["GRADIO_TEMP_DIR"]).free - LEAST_FREE_BYTES
        if num_bytes > min(MAX_STORED_BYTES_OF_ALL - sum(size for *_, size in self.sent), free):
            return "This server has no room for more now: try again in ten minutes."
        self.sent.append((now, visitor, num_bytes))
        return ""

    def forget(self, num_bytes: int, visitor: Visitor) -> None:
        """Take back what was counted last of this: nothing of it was stored."""
        for i in reversed(range(len(self.sent))):
            if self.sent[i][1:] == (visitor, num_bytes):
                del self.sent[i]
                break


class Visitors:
    """What belongs to whom: names of files, of sessions and of requests."""

    def __init__(self) -> None:
        self._owners: dict[str, set[str]] = {}
        self._given: dict[str, OrderedDict[str, None]] = {}  # the names by address, those used last at the end
        self._num_names = 0
        self._door = threading.Lock()

    def give(self, name: str, visitor: Visitor) -> None:
        """Let a visitor use something, also with the cookie that they are about to get."""
        with self._door:
            self._owners.setdefault(name, set()).update(visitor.keys, {visitor.cookie} - {""})
            names = self._given.setdefault(visitor.address, OrderedDict())
            self._num_names += name not in names
            names[name] = None
            names.move_to_end(name)
            while self._num_names > MAX_NAMES:  # of whoever has the most, so that nobody pushes out others' names
                address = max(self._given, key=lambda one: len(self._given[one]))
                self._owners.pop(self._given[address].popitem(last=False)[0], None)
                self._num_names -= 1

    def may_use(self, name: str, visitor: Visitor, *, first_come: bool = False) -> bool:
        """Whether something is a visitor's; of whom it is if nobody's yet and `first_come`."""
        if len(name) > MAX_LETTERS or (first_come and not name.isprintable()):
            return False
        with self._door:
            owners = self._owners.get(name)
            if owners and owners & visitor.keys:
                if not visitor.cookie:  # they keep cookies: without theirs nobody at their address has it any more
                    owners -= {visitor.place}
                return True
        if owners is None and first_come:
            self.give(name, visitor)
            return True
        return False

    def may_read(self, path: Any, visitor: Visitor, shared: frozenset[Path]) -> Path | None:
        """The real file of a path if it lies in the room and is the visitor's or for all; else None."""
        real = file_in_room(path)
        return real if real is not None and (real in shared or self.may_use(str(real), visitor)) else None


def file_in_room(path: Any) -> Path | None:
    """The file that a path leads to, whatever links are on the way, if it is a plain file in the room; else None."""
    try:
        real = Path(path).resolve(strict=True)
        plain = stat.S_ISREG(real.stat().st_mode)
    except (OSError, ValueError, TypeError, RuntimeError):
        return None
    return real if plain and real.is_relative_to(Path(os.environ["GRADIO_TEMP_DIR"]).resolve()) else None
