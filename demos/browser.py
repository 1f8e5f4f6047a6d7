"""Serve the output of export.py --format web, which runs a page's model in the visitor's browser.

A folder is written once for each model, by export.py in a process of its own, and kept in the user's cache.
"""

import hashlib
import secrets
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path

from starlette.responses import FileResponse

from apps.common.checkpoint import DESCRIPTION, WEIGHTS, model_folder
from apps.common.deploy.web import RUNTIME, WEB_FILES, cached_page
from demos.task import Choice, NotUsable
from demos.visitors import Visitor, Visitors

ROOT = Path(__file__).resolve().parents[1]
PLACE = "/browser/"  # of all such pages
MAX_PAGES = 1000  # addresses that are remembered
EXPORT_SECONDS = 900
HEADERS = {  # without the first two, the runtime computes in one thread
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
FILES = {*WEB_FILES - {"ort"}, *(f"ort/{name}" for name in RUNTIME)}


class InBrowser:
    """Folders of web pages, by the address under which the visitor who asked may read them.

    Attributes:
        ort: the unpacked npm package of the runtime; None for its CDN.
    """

    def __init__(self, visitors: Visitors) -> None:
        self.visitors = visitors
        self.ort: Path | None = None
        self._folders: OrderedDict[str, Path] = OrderedDict()
        self._door = threading.Lock()

    def address(self, app: str, choice: Choice, visitor: Visitor) -> str:
        """A new address of a model's page for a visitor; the page is written if it is not there yet.

        Raises:
            ValueError: there is no such page of a published classifier.
            NotUsable: it cannot be written.
        """
        with self._door:  # one export at a time
            folder = self._folder(app, choice)
            name = secrets.token_hex(16)
            self._folders[name] = folder
            while len(self._folders) > MAX_PAGES:
                self._folders.popitem(last=False)
        self.visitors.give(f"browser {name}", visitor)
        return f"{PLACE}{name}/"

    def find(self, path: str, visitor: Visitor) -> FileResponse | None:
        """The answer to a visitor's request for a path; None if it is not theirs, or there is no such file."""
        if not path.startswith(PLACE):
            return None
        name, _, file = path.removeprefix(PLACE).partition("/")
        folder, file = self._folders.get(name), file or "index.html"
        if folder is None or file not in FILES or not self.visitors.may_use(f"browser {name}", visitor):
            return None
        kind = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}.get(Path(file).suffix)
        return FileResponse(folder / file, headers=HEADERS, media_type=kind) if (folder / file).is_file() else None

    def _folder(self, app: str, choice: Choice) -> Path:
        if choice.checkpoint is None and app != "detection":  # whose export.py takes no published weights
            raise ValueError("This page can be made of your runs and of the bundled model: choose one of them.")
        flags = ["--weights", str(choice.weights), "--backbone", choice.backbone]
        key = f"{app} {choice.source()} {self.ort}"
        if choice.checkpoint:
            try:
                model = model_folder(choice.checkpoint)
                data = [(model / name).read_bytes() for name in (DESCRIPTION, WEIGHTS)]
            except (ValueError, OSError) as error:  # a file of another format, say
                raise NotUsable(str(error)) from None
            flags = ["--checkpoint", str(model)]
            key += "".join(hashlib.sha256(one).hexdigest() for one in data)
        flags += ["--ort", str(self.ort)] if self.ort else []
        out = cached_page(key)
        if not (out / "index.html").is_file():
            script = [sys.executable, str(ROOT / "apps" / app / "export.py"), "--format", "web", "--out", str(out)]
            try:
                done = subprocess.run([*script, *flags], capture_output=True, text=True, timeout=EXPORT_SECONDS)
            except subprocess.TimeoutExpired:
                raise NotUsable(f"{' '.join(script)} took more than {EXPORT_SECONDS} seconds") from None
            if done.returncode:
                raise NotUsable(done.stderr.strip().rpartition("\n")[2] or f"{' '.join(script)} failed")
        return out
