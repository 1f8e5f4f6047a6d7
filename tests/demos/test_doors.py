"""Who gets in, and to what: names of hosts, other web sites, sizes, every form of a file object at every function."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import gradio as gr
import httpx
import numpy as np
import pytest

from demos import guard, serving, visitors
from demos.blocks import new_blocks
from demos.chooser import make_models
from demos.detection import DetectionTask
from demos.guard import MAX_BODY_BYTES, Hosts
from demos.page import make_page
from demos.payloads import Camera, UploadedPhoto
from demos.visitors import Stored
from tests.demos.browsing import wait_until
from tests.demos.visiting import FILE, PHOTO, Visitor

SECRET = "secret-picture"
LOGIN = ("me", "secret")


@pytest.fixture(scope="module")
def locked_page(model_folders: dict[str, Path], room: Path) -> Iterator[gr.Blocks]:
    """A page that asks for a password."""
    task = DetectionTask()
    page = make_page([(task, make_models(task, checkpoint=model_folders["detection"], device="cpu"))], title="locked")
    serving.launch(page, serving.Server(auth=":".join(LOGIN)), wait=False)
    yield page
    page.close(verbose=False)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture outside of what a page may give."""
    path = tmp_path / f"{SECRET}.png"
    cv2.imwrite(str(path), np.full((64, 64, 3), 200, np.uint8))
    return path


def forms(path: str) -> list[Any]:
    """All forms in which a file can be named."""
    web = f"http://127.0.0.1/gradio_api/file={path}"
    objects: list[Any] = [
        *({"path": path, **more} for more in ({}, {"meta": {}}, {"meta": {"_type": "x"}}, {"meta": None}, FILE)),
        *({"path": path, "url": url, **FILE} for url in ("data:image/png;base64,AAAA", web, path)),
        *({"path": path, "is_stream": stream, "orig_name": "x.svg", **FILE} for stream in (True, False)),
        *({"path": None, "url": url, **FILE} for url in (f"file://{path}", web, path)),
        *({"url": url} for url in (f"file://{path}", web, path)),
        *({"path": other, **FILE} for other in (f"file://{path}", web, [path], {"path": path}, f"{path}\0", 7)),
    ]
    given = {"path": path, **FILE}
    wrapped = [
        {"image": given},
        {"video": given},
        {"value": given},
        [given, given],
        [[given]],
        [[[[[given]]]]],
        path,
        [path],
    ]
    return [*objects, *wrapped]


def outside(room: Path, secret: Path) -> list[str]:
    """Ways to files that are not a visitor's."""
    link = room / "link.png"
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    ways = [
        secret,
        os.path.relpath(secret),
        room / ".." / os.path.relpath(secret, room.parent),
        link,
        room,
        room / ".lock",
    ]
    return [*map(str, ways), "/dev/zero", "/etc/passwd", "~/.ssh/id_rsa", ""]


def refused(page: gr.Blocks, visitor: Visitor, index: int, form: Any) -> bool:
    """Whether a form is refused by every input of a function, with nothing of the file in the answer."""
    function = page.fns[index]
    inputs = [block for block in function.inputs if not isinstance(block, gr.State)]
    answer = visitor.ask(index, [form] * len(function.inputs))
    assert SECRET not in str(answer["output"].get("data")), (function.api_name, form)
    return not answer["success"] or not inputs


@pytest.mark.parametrize("auth", [None, LOGIN], ids=["open", "auth"])
@pytest.mark.parametrize("clicked", [False, True], ids=["fresh", "after an example"])
def test_no_form_of_a_file_object_leads_out_of_the_room(page, locked_page, room, secret, auth, clicked):
    one = locked_page if auth else page
    visitor = Visitor(one, f"forms {auth} {clicked}", auth=auth)
    if clicked:
        shown = visitor.ask(visitor.function("load_example"), [0])["output"]["data"][0]
        example = shown.get("value", shown)
        assert visitor.photo({"path": example["path"], **FILE})["success"], "an example is everybody's"
    functions = list(one.fns) if auth else [i for i in one.fns if i <= len(one.fns) // 2]  # the other apps' are alike
    for index in functions:
        answers = {str(form): refused(one, visitor, index, form) for form in forms(str(secret))}
        # a camera's picture may lie in the request itself: that is taken, the path is not
        left = [form for form, good in answers.items() if not good and "data:image" not in form]
        assert not left, one.fns[index].api_name
    for path in outside(room, secret):
        for form in ({"path": path}, {"path": path, **FILE}):
            for name in ("detect", "frame", "detect_video", "detect_photos", "lambda"):
                assert refused(one, visitor, visitor.function(name), form), (name, form)
    assert visitor.photo({"path": visitor.upload(), **FILE})["success"], "the page still works"


def test_a_camera_takes_its_picture_from_the_request_and_never_the_path_beside_it(page, secret):
    visitor = Visitor(page, "camera")
    index = visitor.function("frame")
    data = "data:image/png;base64,AAAA"
    sent = [{"path": str(secret), "url": data}, False, None, "given: detection", 0.3, [], None]
    answer = visitor.ask(index, sent)
    assert answer["output"]["data"][1].startswith("the camera's picture is not a picture")


@pytest.mark.parametrize("path", ["/dev/zero", __file__])
@pytest.mark.parametrize("component", [Camera, UploadedPhoto])
def test_components_read_nothing_outside_the_room(room, component, path):
    with pytest.raises(gr.Error, match="not uploaded here"):
        component(render=False).preprocess(component.data_model(path=path))


def test_every_form_of_ones_own_upload_is_taken(page):
    visitor = Visitor(page, "own")
    path = visitor.upload()
    for form in (
        {"path": path},
        {"path": path, "meta": {}},
        {"path": path, **FILE},
        {"path": path, "url": "http://x/"},
    ):
        answer = visitor.photo(form)
        assert answer["success"], form
        picture = answer["output"]["data"][0]
        assert visitor.web.get(f"gradio_api/file={picture['path']}").status_code == 200


def test_two_visitors_do_not_see_each_others_files_sessions_and_answers(page, secret):
    one, two = Visitor(page, "one"), Visitor(page, "two")
    path = one.upload(secret)
    answer = one.photo({"path": path, **FILE})
    result = answer["output"]["data"][0]["path"]
    for file in (path, result):
        assert one.web.get(f"gradio_api/file={file}").status_code == 200
        for other in (two.web, httpx.Client(base_url=page.local_url)):  # the second has no cookie at all
            assert other.get(f"gradio_api/file={file}").status_code == 403
            assert other.get(f"gradio_api/file/{file}").status_code == 403
        assert not two.photo({"path": file, **FILE})["success"]
    assert two.web.get("gradio_api/queue/data", params={"session_hash": "one"}).status_code == 403
    assert two.web.get("gradio_api/heartbeat/one").status_code == 403
    assert two.join(two.function("detect"), [None] * 5, session="one").status_code == 400
    event = one.web.post("gradio_api/call/detect", json={"data": [{"path": path}, "given: detection", 0.3, [], None]})
    assert two.web.get(f"gradio_api/call/detect/{event.json()['event_id']}").status_code == 403
    assert one.web.get(f"gradio_api/call/detect/{event.json()['event_id']}").status_code == 200
    assert two.upload(secret) == path, "the same photo"
    assert two.photo({"path": path, **FILE})["success"]


def test_programs_without_cookies_have_what_they_sent(page):
    path = httpx.post(f"{page.local_url}gradio_api/upload", files={"files": ("a.jpg", PHOTO.read_bytes())}).json()[0]
    body = {"data": [{"path": path}, "given: detection", 0.3, [], None]}
    event = httpx.post(f"{page.local_url}gradio_api/call/detect", json=body).json()["event_id"]
    assert "event: complete" in httpx.get(f"{page.local_url}gradio_api/call/detect/{event}", timeout=60).text


FOREIGN = [
    "evil.example",
    "127.0.0.1.evil.example",
    "10.0.0.1:7860",
    "localhost.evil",
    "[::2]",
    "a@localhost",
    "",
    "::1",
]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", ["", "config", "gradio_api/upload", "gradio_api/queue/join", "gradio_api/call/detect"])
def test_other_host_names_and_web_sites_are_refused(page, method, path):
    ask = {"access-control-request-method": "POST"}
    for host in FOREIGN:
        assert httpx.request(method, page.local_url + path, headers={"host": host, **ask}).status_code == 403, host
    port = page.server_port
    for site in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}", "file://", f"http://localhost:{port}x"):
        answer = httpx.request(method, page.local_url + path, headers={"origin": site, **ask})
        assert answer.status_code == 403, site
        assert "access-control-allow-origin" not in answer.headers


@pytest.fixture
def seen(monkeypatch) -> list[visitors.Visitor]:
    """All visitors whom pages see."""
    found, of = list[visitors.Visitor](), guard.visitor_of

    def noted(*args, **options):
        found.append(of(*args, **options))
        return found[-1]

    monkeypatch.setattr(guard, "visitor_of", noted)
    return found


CLAIMED = {"x-forwarded-for": "198.51.100.1, 8.8.8.8"}


def test_only_named_proxies_are_believed_who_asks(page, room, seen):
    httpx.get(page.local_url, headers=CLAIMED)
    assert {one.address for one in seen} == {"127.0.0.1"}
    seen.clear()
    with new_blocks("behind a proxy") as behind:
        gr.Markdown("hello")
    try:
        address = serving.launch(behind, serving.Server(proxies=("127.0.0.0/8",)), wait=False)
        seen.clear()
        httpx.get(address, headers=CLAIMED)
        assert {one.address for one in seen} == {"8.8.8.8"}, "what a sender wrote is before it"
    finally:
        behind.close(verbose=False)


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.9, 8.8.8.8, 10.1.2.3", "8.8.8.8"),  # who pretends, who it is, a proxy within
        ("2a00:1450:4001:81b::200e", "2a00:1450:4001:81b::/64"),
        ("2a00:1450:4001:81b::1", "2a00:1450:4001:81b::/64"),
        ("x" * 5000, "10.9.9.9"),
        ("10.0.0.1,, 127.0.0.1", "10.9.9.9"),
    ],
)
def test_on_a_space_a_header_limits_and_gives_nothing(forwarded, address):
    scope = {"client": ("10.9.9.9", 1), "headers": [(b"x-forwarded-for", forwarded.encode())]}
    one = visitors.visitor_of(scope, {}, on_space=True)
    assert (one.address, one.keys, one.place) == (address, {"at anywhere"}, "at anywhere")
    elsewhere = visitors.visitor_of(scope, {})
    assert (elsewhere.address, elsewhere.keys) == ("10.9.9.9", {"at 10.9.9.9"})


def test_requests_that_stay_open_have_a_bound(page, monkeypatch):
    door = page.app.middleware_stack
    before = door.open.total()  # of other tests' clients
    monkeypatch.setattr(guard, "MAX_OPEN", before + 2)
    web = httpx.Client(base_url=page.local_url, timeout=20)
    with web.stream("GET", "gradio_api/heartbeat/open1") as one, web.stream("GET", "gradio_api/heartbeat/open2") as two:
        assert (one.status_code, two.status_code) == (200, 200)
        answer = web.get("config")
        assert (answer.status_code, answer.text) == (503, "Too many requests are open.")
    web.close()
    wait_until(lambda: door.open.total() <= before)
    monkeypatch.undo()
    assert httpx.get(page.local_url).status_code == 200


def test_names_of_this_machine_are_let_in(page):
    for host in ("localhost", "LOCALHOST:7860", "127.0.0.1", "127.9.8.7:1", "[::1]:7860", "localhost."):
        headers = {"host": host, "origin": f"http://{host}"}
        assert httpx.get(page.local_url, headers=headers).status_code == 200, host


def test_hosts_of_a_server(monkeypatch):
    monkeypatch.setenv("SPACE_HOST", "me-demo.hf.space")
    hosts = serving.hosts_of(serving.Server(host="192.168.1.7", public_host=("demo.example.org",)))
    assert [hosts.have(name) for name in ("192.168.1.7", "demo.example.org", "me-demo.hf.space")] == [True] * 3
    assert not hosts.have("10.0.0.1")
    everywhere = serving.hosts_of(serving.Server(host="0.0.0.0"))
    assert everywhere.have("10.0.0.1")
    assert not everywhere.have("evil.example")
    assert Hosts(["[::5]"]).have("[::5]:80")
    assert [Hosts(["a"]).have(one) for one in ("a:1", "A", "[::1]:80", "a/b", "a:b", "ä")] == [True] * 3 + [False] * 3


@pytest.mark.parametrize("path", ["queue/join", "call/detect", "run/predict", "cancel", "stream/x", "component_server"])
def test_large_requests_are_refused_without_being_kept(page, path):
    url, part = f"{page.local_url}gradio_api/{path}", bytes(1_000_000)
    visitor = Visitor(page, f"large {path}")
    sizes = [MAX_BODY_BYTES + 1, 3 * MAX_BODY_BYTES]
    answers = [visitor.web.post(url, content=bytes(size)).status_code for size in sizes]
    answers.append(visitor.web.post(url, content=(part for _ in range(MAX_BODY_BYTES // len(part) + 1))).status_code)
    wanted = {"stream/x": 403, "component_server": 404}.get(path, 413)
    assert answers == [wanted] * 3


def test_uploads_have_a_bound_of_their_own(page, room, monkeypatch):
    guard = page.app.middleware_stack
    monkeypatch.setattr(guard, "max_upload_bytes", 300_000)
    visitor = Visitor(page, "uploads")
    before = {path for path in room.rglob("*") if path.is_file()}
    files = [("files", (f"{i}.jpg", bytes([i]) * 100_000)) for i in range(4)]
    assert visitor.web.post("gradio_api/upload", files=files).status_code == 413
    body = b"--x\r\nContent-Disposition: form-data; name=files; filename=a\r\n\r\n"
    parts = (body, *[bytes(100_000)] * 4, b"\r\n--x--\r\n")
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert visitor.web.post("gradio_api/upload", content=iter(parts), headers=kind).status_code == 413
    assert visitor.web.post("gradio_api/upload", files=files[:2]).status_code == 200
    left = {path for path in room.rglob("*") if path.is_file()} - before
    assert {path.name for path in left} == {"0.jpg", "1.jpg"}


def send_half(page: gr.Blocks) -> None:
    """An upload whose connection breaks."""
    with socket.create_connection(("127.0.0.1", int(str(page.local_url).rpartition(":")[2].strip("/")))) as one:
        one.sendall(
            b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            b"--x\r\nContent-Disposition: form-data; name=files; filename=half.jpg\r\n\r\n" + bytes(1_000_000)
        )
        time.sleep(0.5)


def test_an_upload_that_breaks_off_leaves_nothing_at_once(page, room, capfd):
    guard = page.app.middleware_stack
    stored, before = list(guard.stored.sent), set(room.rglob("*"))
    send_half(page)
    end = time.monotonic() + 10
    while ((left := set(room.rglob("*")) - before) or guard.stored.sent != stored) and time.monotonic() < end:
        time.sleep(0.05)  # the server tidies up after its answer
    assert not left
    assert guard.stored.sent == stored
    body = {"content": b"--x\r\nContent-Disposition: form-data; filename=a\r\n\r\nno name\r\n--x--\r\n"}
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert Visitor(page, "wrong").web.post("gradio_api/upload", headers=kind, **body).status_code == 400
    while (set(room.rglob("*")) - before or guard.stored.sent != stored) and time.monotonic() < end + 10:
        time.sleep(0.05)  # it tidies up when it has answered
    assert not set(room.rglob("*")) - before and guard.stored.sent == stored
    assert "Traceback" not in capfd.readouterr().err


def test_what_visitors_may_store_has_a_bound(page, room, monkeypatch):
    monkeypatch.setattr(page.app.middleware_stack, "stored", Stored(630))
    monkeypatch.setattr(visitors, "MAX_STORED_BYTES", 250_000)
    monkeypatch.setattr(visitors, "MAX_STORED_BYTES_OF_ALL", 350_000)

    def send(visitor: Visitor, letter: bytes) -> tuple[int, str]:
        answer = visitor.web.post("gradio_api/upload", files={"files": ("a.jpg", letter * 100_000)})
        return answer.status_code, answer.text

    one, other = Visitor(page, "stores much"), Visitor(page, "stores little")
    assert [send(one, letter)[0] for letter in (b"a", b"b")] == [200, 200]
    before = set(room.rglob("*"))
    status, text = send(one, b"c")
    assert status == 413 and "You have sent 0.0 GB in ten minutes" in text
    assert send(other, b"d")[0] == 200
    assert send(other, b"e") == (413, "This server has no room for more now: try again in ten minutes.")
    assert {path.name for path in set(room.rglob("*")) - before if path.is_file()} == {"a.jpg"}
    later = time.monotonic() + 631
    monkeypatch.setattr(visitors, "time", SimpleNamespace(monotonic=lambda: later))  # not that of the server
    assert send(one, b"c")[0] == 200
    monkeypatch.setattr(visitors, "LEAST_FREE_BYTES", 10**18)
    assert send(one, b"f")[0] == 413


def test_what_the_page_does_not_need_is_closed(page):
    """Gradio would fetch from other servers, write outside of the room, or tell what others do."""
    for path in (
        "deep_link",
        "component_server",
        "process_recording",
        "vibe-edit",
        "proxy=https://x.hf.space/",
        "runs",
    ):
        for method in ("GET", "POST"):
            url = f"{page.local_url}gradio_api/{path}?session_hash=x"
            assert httpx.request(method, url).status_code == 404, path
    assert httpx.get(f"{page.local_url}gradio_api/file=https://example.org/x.png").status_code == 403
    assert httpx.get(f"{page.local_url}monitoring").status_code == 404
    visitor = Visitor(page, "direct")
    body = {"data": [{"path": visitor.upload()}, "given: detection", 0.3, [], None]}
    assert visitor.web.post("gradio_api/run/detect", json=body).status_code == 404, "past the queue"


def test_one_visitor_does_not_fill_the_queue(page, monkeypatch):
    one, two = Visitor(page, "busy one"), Visitor(page, "another")
    path, index = one.upload(), one.function("detect_photos")
    function = page.fns[index]
    monkeypatch.setattr(function, "fn", lambda *args: time.sleep(0.5) or (None, "done", []))
    data = [[{"path": path, **FILE}], "given: detection", 0.3, [], None]
    codes = [one.join(index, data).status_code for _ in range(45)]
    assert 7 <= codes.count(200) <= 12
    assert codes.count(503) == 45 - codes.count(200)
    assert "You have 8 requests waiting" in one.join(index, data).json()["detail"]
    assert two.photo({"path": two.upload(), **FILE})["success"]
    assert two.join(index, [[{"path": two.upload(), **FILE}], *data[1:]]).status_code == 200
    assert one.photo({"path": path, **FILE})["success"], "other things are not blocked either"


def test_nobody_cancels_what_another_visitor_asked_for(page):
    """Neither by the number of the request, in their own session, nor by the session that it is of."""
    one, other = Visitor(page, "cancelled"), Visitor(page, "cancelling")
    index = one.function("detect")
    joined = one.join(index, [None, "given: detection", 0.3, [], None])
    event = joined.json()["event_id"]
    assert other.ask(index, [None, "given: detection", 0.3, [], None]), "which makes the other session theirs"
    wanted = {"session_hash": one.session, "fn_index": index, "event_id": event}
    for body in (wanted, {**wanted, "session_hash": other.session}, {**wanted, "event_id": "x"}, [], {}):
        assert other.web.post("gradio_api/cancel", json=body).status_code == 403, body
    assert one.web.post("gradio_api/cancel", json=wanted).status_code == 200


def test_a_visitor_who_chooses_many_names_pushes_out_their_own(monkeypatch):
    monkeypatch.setattr(visitors, "MAX_NAMES", 100)
    owners = visitors.Visitors()
    quiet, loud = (
        visitors.Visitor(frozenset({key}), address, f"at {address}")
        for key, address in (("q", "10.0.0.1"), ("l", "10.0.0.2"))
    )
    for i in range(20):
        owners.give(f"file {i}", quiet)
    for i in range(1000):
        assert owners.may_use(f"session {i}", loud, first_come=True)
    assert all(owners.may_use(f"file {i}", quiet) for i in range(20))
    assert [owners.may_use(f"session {i}", loud) for i in (999, 920, 919, 0)] == [True, True, False, False]
    assert len(owners._owners) == 100
