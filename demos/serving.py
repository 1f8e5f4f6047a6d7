"""Serve a page: by default only on this machine, and without keeping uploads."""

import contextlib
import ipaddress
import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import tyro

from apps.common.choices import Runtime
from apps.common.options import DeviceOption
from demos import bypass_proxies
from demos.guard import Guard, Hosts
from demos.rooms import end_when_told, wait_for_the_end

if TYPE_CHECKING:
    import gradio as gr

MAX_UPLOAD_BYTES, MAX_UPLOADS_BYTES = 200_000_000, 2_000_000_000  # of any file, and of all that are sent at once
FIRST_PORT, NUM_PORTS = 7860, 100
QUEUE_SIZE = 32  # requests that wait; more are turned away
ALWAYS: dict[str, Any] = {  # Gradio's settings for every page
    "max_threads": 8,
    "enable_monitoring": False,
    "run_history": False,
    "show_error": False,
    "strict_cors": True,
    "allowed_paths": [],
    "mcp_server": False,
    "state_session_capacity": 200,  # 0.4 MB each; the page needs of a session's past no more than its frames a second
    "ssr_mode": False,
    "pwa": False,
    "inbrowser": False,
    "footer_links": ["api", "settings"],
    "prevent_thread_lock": True,
    "quiet": True,
}
ASSETS = Path(__file__).parent / "assets"  # what the page looks like, and how it treats the camera
FONT = ("system-ui", "sans-serif")  # of the visitor's machine: nothing is fetched


@dataclass(frozen=True, kw_only=True)
class Computing(DeviceOption):
    """The runtime."""

    runtime: Runtime = "torch"
    """library that runs the network: torch, torch-compile, onnx, openvino, or auto: the fastest installed, found in a
    minute at first use"""
    bundled: tyro.conf.FlagCreatePairsOff[bool] = False
    """begin with the model that comes with the project, not with a published one, and download nothing at the start"""
    ort: Path | None = None
    """unpacked npm package onnxruntime-web, for the webcam in visitors' browsers; default its public CDN"""


@dataclass(frozen=True, kw_only=True)
class Server:
    """Flags: where a page is served, and its visitors."""

    host: str = "127.0.0.1"
    """address to listen on; another than this machine's own needs --auth"""
    public_host: tuple[str, ...] = ()
    """further host names of the page, such as that of an https proxy; requests with other names are refused"""
    proxies: tuple[str, ...] = ()
    """addresses or networks of https proxies in front of this page, whose X-Forwarded-For is trusted; without, all who
    come through a proxy count as one visitor for the page's limits"""
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
        ValueError: it would let everybody in without --no-auth, --auth is not USER:PASSWORD, or a proxy no address.
    """
    for proxy in server.proxies:
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            raise ValueError(f"--proxies must be addresses, such as 127.0.0.1, or networks, not {proxy!r}") from None
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


def find_port(server: Server) -> int:
    """The port to listen on.

    Raises:
        ValueError: --port is none or is taken, or --host is no address of this machine.
    """
    if server.port is not None and not 1 <= server.port <= 65535:
        raise ValueError(f"--port must be 1 to 65535, not {server.port}")
    try:
        found = socket.getaddrinfo(server.host.strip("[]"), None, type=socket.SOCK_STREAM)[0]
        with socket.socket(found[0]) as one:
            one.bind((found[4][0], 0))
    except (OSError, UnicodeError) as error:
        raise ValueError(f"--host {server.host} is no address of this machine ({error})") from None
    for port in [server.port] if server.port else range(FIRST_PORT, FIRST_PORT + NUM_PORTS):
        try:
            for family, address in dict.fromkeys([(found[0], found[4][0]), (socket.AF_INET, "127.0.0.1")]):  # Gradio's
                with socket.socket(family) as one:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    one.bind((address, port))
                    one.listen()
            return port
        except OSError as error:
            problem = error.strerror or str(error)
    which = f"--port {server.port} cannot be used" if server.port else f"no port from {FIRST_PORT} to {port} is free"
    raise ValueError(f"{which} ({problem}): give another --port, or none for the first free one")


def hosts_of(server: Server) -> Hosts:
    """By which names visitors may reach a page."""
    sites = [
        *server.public_host,
        *(name.strip() for name in os.environ.get("SPACE_HOST", "").split(",") if name.strip()),
    ]
    names = [server.host]
    everywhere = server.host.strip("[]") in ("0.0.0.0", "::")
    if everywhere:
        own = socket.gethostname()
        names += [own, own.partition(".")[0], f"{own}.local"]
    return Hosts(names, sites=sites, any_address=everywhere)


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
        ValueError: see `check_server` and `find_port`.
    """
    server = as_on_space(server)
    auth = check_server(server)
    guard = Guard(page, hosts_of(server), max_upload_bytes=MAX_UPLOADS_BYTES, on_space="SPACE_ID" in os.environ)
    bypass_proxies(server.host)
    os.environ["FORWARDED_ALLOW_IPS"] = ",".join(server.proxies)  # uvicorn believes whatever runs on this machine
    if wait:
        end_when_told()
    if server.share:
        print("WARNING: everybody who has the --share link can use this page, and what they send passes through it")
    if not is_local(server.host):
        print(
            "browsers give a page the camera only on this machine or by https: elsewhere use --share or an https proxy"
        )
    page.queue(max_size=QUEUE_SIZE, default_concurrency_limit=2, api_open=False)  # all requests queue
    style, script = ((ASSETS / name).read_text(encoding="utf-8") for name in ("page.css", "camera.js"))
    options: dict[str, Any] = {
        "theme": make_theme(),
        "head": f"<style>{style}</style><script>{script}</script>",  # `css` would be rewritten, and media queries lost
    }
    options |= dict(
        server_name=f"[{server.host}]" if ":" in server.host.strip("[]") else server.host,
        app_kwargs={"lifespan": guard.lifespan},
        auth=auth,
        share=server.share,
        max_file_size=MAX_UPLOAD_BYTES,
    )
    for _ in range(NUM_PORTS):
        with contextlib.suppress(OSError):  # another program was faster
            _, address, public = page.launch(server_port=find_port(server), **options, **ALWAYS)
            break
    else:
        raise ValueError(f"the page cannot listen on --host {server.host}: give another --port or --host")
    if guard.app is None:
        page.close(verbose=False)
        raise RuntimeError("this version of Gradio starts without the guard of its requests")
    guard.hosts.sites |= {urlsplit(public).hostname or ""} if public else set()
    print(f"the page is at {address}" + (f" and for everybody at {public}" if public else ""), flush=True)
    if wait:
        wait_for_the_end()
    return address
