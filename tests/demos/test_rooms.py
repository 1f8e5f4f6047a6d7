"""How a page starts and ends: ports and proxies, signals, and what is left on the disk."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import httpx
import pytest

from apps.common.cli import run_command
from benchmarks.demo_load import served
from demos import blocks, detection, rooms, serving
from demos.serving import Server, find_port
from tests.demos.visiting import FILE, PHOTO

if not hasattr(signal, "SIGHUP"):
    pytest.skip("Windows has neither these signals nor these locks", allow_module_level=True)


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pages of this test make their rooms."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def files(parent: Path) -> list[Path]:
    return [path for path in parent.rglob("*") if path.is_file()]


def start_a_folder(address: str, num_photos: int = 450) -> None:
    """Have a table made of many photos, which takes minutes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for i in range(num_photos):
            archive.writestr(f"{i}.jpg", PHOTO.read_bytes())
    path = httpx.post(
        f"{address}gradio_api/upload", files={"files": ("many.zip", packed.getvalue())}, timeout=60
    ).json()[0]
    data = [[{"path": path, **FILE}], "bundled: drawings", 0.3, [], None]
    event = httpx.post(f"{address}gradio_api/call/detect_photos", json={"data": data}, timeout=60).json()["event_id"]
    with pytest.raises(httpx.ReadTimeout):  # it computes
        httpx.get(f"{address}gradio_api/call/detect_photos/{event}", timeout=0.5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_a_folder_ends_in_seconds_with_nothing_left(parent, tmp_path, number):
    with served("detection", folder=tmp_path) as server:
        start_a_folder(server.address)
        assert files(parent)
        server.process.send_signal(number)
        began = time.monotonic()
        assert server.process.wait(10) == 0
        assert time.monotonic() - began < 5
    assert files(parent) == []
    assert list(parent.glob(f"{rooms.PREFIX}*")) == []


def test_what_a_killed_page_left_goes_when_the_next_starts(parent, tmp_path):
    with served("detection", folder=tmp_path) as server:
        upload = {"files": ("a.jpg", PHOTO.read_bytes())}
        path = Path(httpx.post(f"{server.address}gradio_api/upload", files=upload).json()[0])
        server.process.kill()
        server.process.wait()
    assert path.is_file()
    code = "from demos.rooms import private_room; import sys; print(private_room(), flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as alive:
        assert alive.stdout
        room = Path(alive.stdout.readline().strip())
        assert not path.exists()
        assert room.stat().st_mode & 0o077 == 0
        (room / "upload.jpg").write_text("x")
        rooms._sweep(parent)
        assert (room / "upload.jpg").exists(), "its process lives"
        alive.communicate("")
    assert not room.exists()


def test_rooms_of_others_are_left_alone(parent, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / rooms.LOCK).touch()
    (parent / f"{rooms.PREFIX}link").symlink_to(tmp_path / "mine")
    (parent / f"{rooms.PREFIX}unlocked").mkdir()
    rooms._sweep(parent)
    assert (tmp_path / "mine" / rooms.LOCK).exists()
    assert (parent / f"{rooms.PREFIX}unlocked").exists(), "not known to be ours"


def test_what_nohup_ignores_stays_ignored():
    code = (
        "import signal; from demos.rooms import end_when_told; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "end_when_told(); print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, callable(signal.getsignal(15)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["True", "True"]


@pytest.mark.parametrize("port", [0, -1, 65536, 99999])
def test_a_port_that_is_none_is_named(port, capsys):
    with pytest.raises(SystemExit) as stop:
        run_command(detection.main, detection.Config, ["--port", str(port)])
    error = capsys.readouterr().err
    assert (stop.value.code, error.count("\n")) == (2, 1)
    assert f"--port must be 1 to 65535, not {port}" in error


def test_a_port_in_use_and_a_foreign_address_are_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"--port {port} cannot be used"):
            find_port(Server(port=port))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(serving, "FIRST_PORT", port)
            assert find_port(Server()) > port
            patch.setattr(serving, "NUM_PORTS", 1)
            with pytest.raises(ValueError, match=f"no port from {port} to {port} is free"):
                find_port(Server())
    for host in ("192.0.2.1", "no.such.host.invalid", "a" * 300, "2001:db8::1"):
        with pytest.raises(ValueError, match=r"--host .* is no address of this machine"):
            find_port(Server(host=host))


def test_a_page_goes_on_to_the_next_port_if_another_program_is_faster(room, monkeypatch):
    with blocks.new_blocks("late") as page, socket.create_server(("127.0.0.1", 0)) as taken:
        port, usual = taken.getsockname()[1], find_port
        ports = iter([port])
        monkeypatch.setattr(serving, "find_port", lambda server: next(ports, None) or usual(server))
        address = serving.launch(page, Server(), wait=False)
    try:
        assert address != f"http://127.0.0.1:{port}/"
        assert httpx.get(address).status_code == 200
    finally:
        page.close(verbose=False)


PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "no_proxy", "NO_PROXY")
NOWHERE = "127.0.0.1:9"


@pytest.mark.parametrize(
    ("host", "proxies"),
    [
        ("127.0.0.1", {"http_proxy": f"http://{NOWHERE}", "HTTPS_PROXY": f"http://{NOWHERE}"}),
        ("localhost", {"all_proxy": f"socks5://{NOWHERE}", "NO_PROXY": "example.org"}),
        ("::1", {"ALL_PROXY": f"socks4://{NOWHERE}", "http_proxy": f"{NOWHERE}"}),
    ],
)
def test_a_page_starts_on_every_local_address_past_all_proxies(parent, tmp_path, monkeypatch, host, proxies):
    if ":" in host:
        try:
            find_port(Server(host=host))
        except ValueError:
            pytest.skip("this machine has no IPv6")
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    with monkeypatch.context() as patch:
        direct = httpx.Client(trust_env=False)
        for name, value in proxies.items():
            patch.setenv(name, value)
        command = [sys.executable, str(Path(detection.__file__)), "--host", host]
        with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, cwd=tmp_path) as process:
            assert process.stdout and process.stderr
            try:
                line = process.stdout.readline()
                assert line.startswith("the page is at http://"), process.stderr.read()
                assert direct.get(line.split()[4]).status_code == 200
            finally:
                process.terminate()
            assert process.wait(10) == 0
    assert "no_proxy" not in os.environ
