"""How a page is served: to this machine alone by default, and no upload is kept."""

import atexit
import ipaddress
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from apps.common.choices import Runtime
from apps.common.options import DeviceOption

if TYPE_CHECKING:
    import gradio as gr

MAX_UPLOAD_BYTES = 200_000_000  # of any file
KEEP_SECONDS = 600  # uploads and results, so that a result can be downloaded
SWEEP_SECONDS = 30
QUEUE_SIZE = 32  # requests that wait; more are turned away
ASSETS = Path(__file__).parent / "assets"  # what the page looks like, and how it treats the camera
FONT = ("system-ui", "sans-serif")  # of the visitor's machine: nothing is fetched


@dataclass(frozen=True, kw_only=True)
class Computing(DeviceOption):
    """The runtime."""

    runtime: Runtime = "torch"
    """library that runs the network: torch, torch-compile, onnx, openvino, or auto: the fastest installed, found in a
    minute at first use"""


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where a page is served and who may see it."""

    host: str = "127.0.0.1"
    """address to listen on; another than this machine's own needs --auth"""
    port: int | None = None
    """port to listen on; default the first free one from 7860"""
    auth: str | None = None
    """USER:PASSWORD that visitors must give; default no password"""
    no_auth: tyro.conf.FlagCreatePairsOff[bool] = False
    """let everybody in who can reach --host or the --share link"""
    share: tyro.conf.FlagCreatePairsOff[bool] = False
    """also make a public link, through servers of Gradio's makers, for a week"""


ComputingFlags = Annotated[Computing, tyro.conf.arg(name="")]
ServerFlags = Annotated[Server, tyro.conf.arg(name="")]
USUAL_COMPUTING, THIS_MACHINE = Computing(), Server()


def check_server(server: Server) -> tuple[str, str] | None:
    """The user and password of a server that may be started.

    Raises:
        ValueError: it would let everybody in without --no-auth, or --auth is not USER:PASSWORD.
    """
    if server.auth is not None:
        user, _, password = server.auth.partition(":")
        if not user or not password:
            raise ValueError("--auth must be USER:PASSWORD")
        if server.no_auth:
            raise ValueError("give --auth or --no-auth, not both")
        return user, password
    if (server.share or not is_local(server.host)) and not server.no_auth:
        where = "--share" if server.share else f"--host {server.host}"
        raise ValueError(f"{where} lets others in: add --auth USER:PASSWORD, or --no-auth if everybody may")
    return None


def as_on_space(server: Server) -> Server:
    """The same server; on a Hugging Face Space, which itself decides who may see it, one that Space can reach."""
    if "SPACE_ID" in os.environ and server == THIS_MACHINE:
        return replace(server, host="0.0.0.0", no_auth=True)
    return server


def is_local(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def private_room() -> Path:
    """A folder for uploads and results that no other user may read; it is removed when the process ends.

    Called before a page is built: Gradio's components ask for it then.
    """
    room = Path(tempfile.mkdtemp(prefix="mobilenet-apps-demo-"))
    atexit.register(shutil.rmtree, room, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(room)
    return room


def new_result(suffix: str) -> Path:
    """A name for a file that a visitor may download; results older than `KEEP_SECONDS` are removed."""
    results = Path(os.environ["GRADIO_TEMP_DIR"]) / "results"
    results.mkdir(exist_ok=True)
    for old in results.iterdir():
        if old.stat().st_mtime < time.time() - KEEP_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=results)) / f"result{suffix}"


def new_blocks(title: str) -> "gr.Blocks":
    """An empty page whose uploads are removed after `KEEP_SECONDS`."""
    import gradio as gr  # takes seconds: not for --help

    return gr.Blocks(title=title, analytics_enabled=False, delete_cache=(SWEEP_SECONDS, KEEP_SECONDS))


def make_theme() -> "gr.themes.Base":
    """Gradio's plain theme with the visitor's own fonts, and small print that can be read in light and dark."""
    import gradio as gr

    theme = gr.themes.Default(
        primary_hue="blue", neutral_hue="slate", font=list(FONT), font_mono=["ui-monospace", "monospace"]
    )
    return theme.set(
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
    )


def launch(page: "gr.Blocks", server: Server, *, wait: bool = True) -> str:
    """Serve a page until Ctrl-C and return its address.

    Args:
        wait: False returns at once; `page.close()` ends it.

    Raises:
        ValueError: see `check_server`.
        OSError: the port is taken.
    """
    server = as_on_space(server)
    auth = check_server(server)
    if server.share:
        print("WARNING: everybody who has the --share link can use this page, and what they send passes through it")
    if not is_local(server.host):
        print(
            "browsers give a page the camera only on this machine or by https: elsewhere use --share or an https proxy"
        )
    page.queue(max_size=QUEUE_SIZE, default_concurrency_limit=2)
    style, script = ((ASSETS / name).read_text(encoding="utf-8") for name in ("page.css", "camera.js"))
    looks: dict[str, Any] = {
        "theme": make_theme(),
        "head": f"<style>{style}</style><script>{script}</script>",  # `css` would be rewritten, and media queries lost
    }
    _, address, public = page.launch(
        server_name=server.host,
        server_port=server.port,
        auth=auth,
        share=server.share,
        max_file_size=MAX_UPLOAD_BYTES,
        max_threads=8,
        enable_monitoring=False,
        run_history=False,
        show_error=False,
        strict_cors=True,
        allowed_paths=[],
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
        inbrowser=False,
        footer_links=["api", "settings"],
        prevent_thread_lock=True,
        quiet=True,
        **looks,
    )
    print(f"the page is at {address}" + (f" and for everybody at {public}" if public else ""), flush=True)
    if wait:
        signal.signal(
            signal.SIGTERM, lambda received, frame: sys.exit(0)
        )  # so that `private_room` is removed then, too
        page.block_thread()
    return address
