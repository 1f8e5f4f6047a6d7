import os
import socket
import time

import gradio as gr
import httpx
import pytest

from apps.common.cli import parse, run_command
from demos import app, blocks, detection, faceattr, finegrained, serving
from demos.rooms import KEEP_SECONDS, SWEEP_SECONDS, new_result
from demos.serving import Server, check_server, is_local


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (Server(host="0.0.0.0"), "--host 0.0.0.0 lets others in: add --auth"),
        (Server(host="192.168.1.7"), "lets others in"),
        (Server(host="example.org"), "lets others in"),
        (Server(share=True), "--share lets others in"),
        (Server(proxies=("127.0.0.1", "proxy.example.org")), "--proxies must be addresses, .*not 'proxy.example.org'"),
        (Server(auth="me"), "must be USER:PASSWORD"),
        (Server(auth="me:"), "must be USER:PASSWORD"),
        (Server(auth="me:secret", no_auth=True), "not both"),
    ],
)
def test_a_server_for_others_needs_to_know_who(server, said):
    with pytest.raises(ValueError, match=said):
        check_server(server)


def test_servers_that_may_be_started():
    assert check_server(Server()) is None
    assert check_server(Server(host="0.0.0.0", auth="me:a:b")) == ("me", "a:b")
    assert check_server(Server(host="0.0.0.0", no_auth=True)) is None
    assert [is_local(host) for host in ("localhost", "127.0.0.1", "::1", "::", "10.0.0.1")] == [True] * 3 + [False] * 2


def test_a_space_lets_in_whom_it_wants(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert serving.as_on_space(Server()) == Server()
    monkeypatch.setenv("SPACE_ID", "someone/demo")
    assert serving.as_on_space(Server()) == Server(host="0.0.0.0", no_auth=True)
    chosen = Server(port=7900, auth="me:secret")
    assert serving.as_on_space(chosen) == chosen


def no_network(*args, **options):
    raise OSError("no network here")


@pytest.mark.parametrize("demo", [detection, finegrained, faceattr, app])
def test_every_demo_refuses_before_it_loads_anything(demo, capsys):
    assert parse(demo.Config, ["--host", "::", "--no-auth", "--port", "81"]).server == Server(
        host="::", no_auth=True, port=81
    )
    with pytest.raises(SystemExit) as stop:
        run_command(demo.main, demo.Config, ["--host", "0.0.0.0"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_checkpoint_that_is_not_there_ends_in_one_line(capsys, monkeypatch):
    monkeypatch.setattr("demos.page.private_room", lambda: None)
    with pytest.raises(SystemExit) as stop:
        run_command(detection.main, detection.Config, ["--checkpoint", "no such run"])
    assert stop.value.code == 2
    assert "no such run does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("demo", [detection, finegrained, faceattr, app])
def test_every_demo_starts_without_a_trained_run_or_a_network(demo, tmp_path, monkeypatch):
    pages = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr("demos.page.private_room", lambda: None)
    monkeypatch.setattr("demos.page.launch", lambda page, server: pages.append((page, server)))
    run_command(demo.main, demo.Config, ["--port", "7900"])
    ((page, server),) = pages
    assert server.port == 7900
    title = "MobileNet apps" if demo is app else page.title
    assert f"# {title}" in str(page.get_config_file())


def test_the_page_tells_nobody_and_is_served_to_this_machine(page):
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert page.analytics_enabled is False
    assert page.delete_cache == (SWEEP_SECONDS, KEEP_SECONDS)
    assert page.server_name == "127.0.0.1"
    assert page.share is False
    assert page.max_file_size == serving.MAX_UPLOAD_BYTES
    assert page.enable_monitoring is False


def test_old_results_are_removed(room):
    old, young = new_result(".csv"), new_result(".csv")
    for path in (old, young):
        path.write_text("x")
    past = time.time() - KEEP_SECONDS - 1
    os.utime(old.parent, (past, past))
    new_result(".csv")
    assert not old.exists()
    assert young.exists()
    assert room.stat().st_mode & 0o077 == 0, "nobody else may look"


def test_visitors_without_the_password_see_nothing(room):
    with blocks.new_blocks("secret") as page:
        gr.Markdown("hidden words")
    address = serving.launch(page, Server(auth="me:secret"), wait=False)
    try:
        assert httpx.get(f"{address}config").status_code == 401
        assert "hidden words" not in httpx.get(address).text
        login = {"username": "me", "password": "wrong"}
        assert httpx.post(f"{address}login", data=login).status_code == 400
        with httpx.Client() as visitor:
            assert visitor.post(f"{address}login", data={**login, "password": "secret"}).status_code == 200
            assert "hidden words" in visitor.get(f"{address}config").text
    finally:
        page.close(verbose=False)
