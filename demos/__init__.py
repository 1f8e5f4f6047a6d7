"""Web pages of the apps. Gradio's telemetry is switched off before its first import."""

import importlib.util
import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def bypass_proxies(*hosts: str) -> None:
    """Let requests to these hosts go past proxies of the environment; forget such as httpx lacks the library for."""
    named = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy") and value}
    usable = ("http://", "https://", *(("socks5://", "socks5h://") if importlib.util.find_spec("socksio") else ()))
    for name, value in named.items():
        if name.lower() != "no_proxy" and "://" in value and not value.lower().startswith(usable):
            del os.environ[name]
    if named:
        past = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        os.environ["no_proxy"] = ",".join(dict.fromkeys([*filter(None, past.split(",")), *hosts]))


bypass_proxies("localhost", "127.0.0.1", "::1")
