"""What a page keeps of its visitors, and what it says to wrong requests."""

import base64
import json
import math
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from demos import blocks, guard
from tests.demos.browsing import wait_until
from tests.demos.visiting import FILE, Visitor


def post(visitor: Visitor, body: dict[str, Any]) -> httpx.Response:
    """What is sent as it is, also NaN."""
    kind = {"content-type": "application/json"}
    return visitor.web.post("gradio_api/queue/join", content=json.dumps(body), headers=kind)


def test_what_is_no_setting_is_told_to_its_sender_and_no_console(page, capfd):
    visitor = Visitor(page, "odd settings")
    path, index = visitor.upload(), visitor.function("detect")
    right: list[Any] = [{"path": path, **FILE}, "given: detection", 0.3, [], None]
    numbers = (math.nan, math.inf, -5, 1e308, 10**30, "0.3", None, True, [0.3], {"a": 1})
    odd: list[tuple[int, Any]] = [(2, one) for one in numbers]
    odd += [(3, one) for one in (5, "red", True, {"a": 1}, [None], [[1]], ["x"] * 3000)]
    odd += [(i, one) for i in (1, 4) for one in (5, ["a"], {"a": 1}, True, "x" * 100_000)]
    odd += [(0, [1]), (0, 5), (1, None)]
    for place, value in odd:
        sent = [*right[:place], value, *right[place + 1 :]]
        joined = post(visitor, {"fn_index": index, "data": sent, "session_hash": visitor.session})
        assert joined.status_code == 200, value
        answer = visitor.answer(joined.json()["event_id"])
        assert not answer["success"], (place, str(value)[:20])
        assert 10 < len(answer["output"]["error"]) < 400, (place, str(value)[:20])
    examples = next(i for i, one in page.fns.items() if one.inputs and one.inputs[0].get_block_name() == "dataset")
    for value in (99, -99, "x", None, [0], {}, math.nan):
        body = json.dumps({"fn_index": examples, "data": [value], "session_hash": visitor.session})
        kind = {"content-type": "application/json"}
        assert visitor.web.post("gradio_api/run/predict", content=body, headers=kind).status_code == 500
    for wrong in ({"fn_index": -1}, {"fn_index": 999}, {"data": right[:2]}, {"data": []}, {"session_hash": ""}):
        body = {"fn_index": index, "data": right, "session_hash": visitor.session, **wrong}
        assert post(visitor, body).status_code == 400, wrong
    assert visitor.photo(right[0])["success"]
    assert "Traceback" not in "".join(capfd.readouterr())


JSON = {"content-type": "application/json"}
BROKEN: list[tuple[str, str, bytes, dict[str, str]]] = [  # method, path, body, headers
    ("GET", "config", b"", {"origin": "http://["}),
    ("GET", "static/" + "a" * 5000, b"", {}),
    ("GET", "gradio_api/heartbeat/a%0Ab", b"", {}),
    ("GET", "gradio_api/queue/data?session_hash=%ED%A0%80", b"", {}),
    ("GET", "gradio_api/queue/data?session_hash=nobody", b"", {}),
    ("POST", "gradio_api/queue/join", b'{"fn_index": NaN, "data": []}', JSON),
    ("POST", "gradio_api/queue/join", b'"\xff"', {"content-type": "text/plain"}),
    ("POST", "gradio_api/run/predict", b'{"data": []}', JSON),
    ("POST", "gradio_api/run/predict", b'{"fn_index": -9, "data": []}', JSON),
    ("POST", "gradio_api/reset", b'{"event_id": ["\\ud800"]}', JSON),
    ("POST", "gradio_api/call/v2/detect", b'{"nobody": 1}', JSON),
    ("POST", "gradio_api/call/v2/choose", b"{}", JSON),
]


@pytest.mark.parametrize("method, path, body, headers", BROKEN)
def test_broken_requests_have_an_answer_and_a_line_on_the_console_at_most(page, capfd, method, path, body, headers):
    answer = httpx.request(method, page.local_url + path, content=body, headers=headers)
    assert 400 <= answer.status_code < 500 or "session_not_found" in answer.text
    assert len("".join(capfd.readouterr()).splitlines()) <= 1
    assert httpx.get(page.local_url + "config").status_code == 200
    assert httpx.get(page.local_url + "static/img/logo.svg").status_code == 200


def test_halves_of_letters_and_lists_of_one_name_are_told(page, capfd):
    """No answer could hold the first, and none came; JSON may name them, and so does Python's reader of bytes."""
    visitor = Visitor(page, "halves")
    detect, alone = visitor.function("detect"), visitor.function("page_alone")
    right: list[Any] = [{"path": visitor.upload(), **FILE}, "given: detection", 0.3, [], None]
    for place, half in ((1, "\ud800"), (3, ["\udfff"]), (3, [{"\ud800": 1}])):
        sent = [*right[:place], half, *right[place + 1 :]]
        joined = post(visitor, {"fn_index": detect, "data": sent, "session_hash": visitor.session})
        answer = visitor.answer(joined.json()["event_id"])
        assert "invalid characters" in answer["output"]["error"], place
    assert "one name" in visitor.ask(alone, [[]])["output"]["error"]
    assert "one name" in visitor.ask(detect, [*right[:4], ["PyTorch"]])["output"]["error"]
    assert visitor.ask(detect, right)["success"]
    assert "Traceback" not in "".join(capfd.readouterr())


def test_names_of_sessions_and_lists_have_a_bound(page):
    visitor = Visitor(page, "long")
    index = visitor.function("detect")
    assert post(visitor, {"fn_index": index, "data": [None] * 5, "session_hash": "x" * 2000}).status_code == 400
    assert visitor.web.get("gradio_api/heartbeat/" + "x" * 2000).status_code == 403
    many = [[]] * 60_000
    assert post(visitor, {"fn_index": index, "data": [many], "session_hash": "long"}).status_code == 413
    wait_until(lambda: not page.app.middleware_stack.held)  # it is given back after the answer


def test_bodies_that_are_being_read_have_a_bound_together(page, monkeypatch):
    monkeypatch.setattr(guard, "MAX_HELD_BYTES", 150_000)

    def slowly(body: bytes) -> int:
        def parts() -> Iterator[bytes]:
            for i in range(10):
                yield body[i::10]
                time.sleep(0.1)

        url = f"{page.local_url}gradio_api/queue/join"
        return httpx.post(url, content=parts(), headers={"content-type": "application/json"}, timeout=30).status_code

    with ThreadPoolExecutor(4) as pool:
        codes = sorted(pool.map(slowly, [bytes(50_000)] * 4))
    assert codes[-1] == 503
    assert codes[0] == 422, "others are heard"
    wait_until(lambda: not page.app.middleware_stack.held)  # it is given back after the answer


def test_an_upload_is_as_long_as_it_says_and_has_files_alone(page, room):
    """Of two lengths the chunks would count; fields without a file's name would be kept in memory."""
    visitor = Visitor(page, "two lengths")
    kind = {"content-type": "multipart/form-data; boundary=x"}
    body = b"--x\r\nContent-Disposition: form-data; name=files; filename=a\r\n\r\n" + bytes(1000) + b"\r\n--x--\r\n"
    with socket.create_connection(("127.0.0.1", page.server_port)) as line:
        head = "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\n"
        head += "Content-Length: 10\r\nTransfer-Encoding: chunked\r\n"
        chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
        line.sendall(f"{head}Content-Type: {kind['content-type']}\r\n\r\n".encode() + chunk)
        assert line.recv(1000).startswith(b"HTTP/1.1 413 ")
    left = {path for path in room.rglob("*") if path.is_file()}
    for query in ("", "?upload_id=x"):
        files = [("files", ("a.jpg", b"x")), ("files", (None, bytes(1000)))]
        assert visitor.web.post(f"gradio_api/upload{query}", files=files).status_code == 400
    assert {path for path in room.rglob("*") if path.is_file()} == left


def test_answers_that_nobody_gets_have_a_bound(page, monkeypatch):
    monkeypatch.setattr(page, "_asked", {})
    monkeypatch.setattr(blocks, "MAX_UNREAD", 3)
    visitor = Visitor(page, "unread")
    index, models = visitor.function("compute"), ["given: detection", None]
    events = []
    for i in range(3):
        events.append((f"unread {i}", visitor.join(index, models, session=f"unread {i}").json()["event_id"]))
    answer = visitor.join(index, models)
    assert answer.status_code == 503
    assert "Get the answers" in answer.json()["detail"]
    for session, event in events[:2]:
        assert visitor.answer(event, session)["success"]
    assert visitor.join(index, models).status_code == 200
    monkeypatch.setattr(blocks, "KEEP_SECONDS", -1)
    deadline = time.monotonic() + 30
    while page._queue.event_ids_to_events and time.monotonic() < deadline:
        time.sleep(0.05)
    assert visitor.join(index, models).status_code == 200
    assert list(page._asked) == ["unread"], "what is old is forgotten"
    assert "unread 2" not in page._queue.pending_messages_per_session


def test_little_is_kept_of_a_session(page):
    visitor = Visitor(page, "little")
    big = "data:image/png;base64," + base64.b64encode(os.urandom(300_000)).decode()
    answer = visitor.ask(visitor.function("frame"), [{"url": big}, False, None, "given: detection", 0.3, [], None])
    assert answer["output"]["data"]
    state = page.app.state_holder["little"]
    assert len(str(state.config_values)) < 300_000
    assert page.state_session_capacity <= 200


def test_of_a_cameras_answers_that_wait_only_the_newest_is_kept(page):
    visitor = Visitor(page, "slow line")
    index = next(i for i, one in page.fns.items() if one.connection == "stream")
    num_frames = 12

    def data(i: int) -> list[Any]:
        frame = np.full((48, 64, 3), 20 * i, np.uint8)
        url = "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", frame)[1].tobytes()).decode()
        return [{"url": url, **FILE}, False, None, "given: detection", 1.0, [], None]

    event = visitor.join(index, data(0)).json()["event_id"]
    for i in range(1, num_frames):
        wait_until(lambda: not page._queue.event_ids_to_events[event].signal.is_set())
        body = {"fn_index": index, "data": data(i), "session_hash": visitor.session}
        assert visitor.web.post(f"gradio_api/stream/{event}", json=body).status_code == 200
        time.sleep(0.05)
    time.sleep(0.5)
    visitor.web.post(f"gradio_api/stream/{event}/close")
    messages = visitor.messages(event)
    frames = [one["output"]["data"][0]["url"] for one in messages if one["msg"] == "process_streaming"]
    assert len(frames) == 1
    last = cv2.imdecode(np.frombuffer(base64.b64decode(frames[0].partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    assert abs(float(last.mean()) - 20 * (num_frames - 1)) < 3
    assert messages[-1]["msg"] == "process_completed" and messages[-1]["success"]
