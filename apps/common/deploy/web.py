"""A folder that runs a model in a browser: a page for photo, webcam and video, with no server behind it.

`page/` has the page; `model.json` beside the ONNX file has the facts about the model that predict.py uses. The runtime
is onnxruntime-web (MIT), which is not part of this project: it is copied from an unpacked npm package, or the page
fetches the same version from a public CDN. Either way the browser refuses a file with another hash.
"""

import base64
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from backbone.files import cache_dir

PAGE = Path(__file__).parent / "page"
MODEL, FACTS = "model.onnx", "model.json"
VERSION = "1.30.0"
CDN = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist/"
RUNTIME = {
    "ort.wasm.bundle.min.mjs": "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
    "ort-wasm-simd-threaded.wasm": "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
}
"""The files of that version that are used, with their hashes (Subresource Integrity)."""
WEB_FILES = {MODEL, FACTS, "faces.onnx", "ort", *(path.name for path in PAGE.iterdir())}


class WebPage(NamedTuple):
    """A page's content besides the model.

    Attributes:
        ort: folder with the runtime, see `find_runtime`; None to fetch it from the CDN.
        facts: for the page, in addition to the ONNX file's metadata.
        files: other files that the page reads, by name.
    """

    ort: Path | None = None
    facts: Mapping[str, Any] = MappingProxyType({})
    files: Mapping[str, bytes] = MappingProxyType({})


def find_runtime(ort: Path | None) -> Path | None:
    """The folder with onnxruntime-web's files, inside an unpacked package; None for none.

    Raises:
        ValueError: a file is missing, or is of another version.
    """
    if ort is None:
        return None
    folder = ort if (ort / next(iter(RUNTIME))).is_file() else ort / "dist"
    for name, wanted in RUNTIME.items():
        if not (folder / name).is_file():
            raise ValueError(f"--ort {ort} has no {name}: give the unpacked npm package onnxruntime-web {VERSION}")
        if integrity((folder / name).read_bytes()) != wanted:
            raise ValueError(f"--ort {ort}: {name} is not that of onnxruntime-web {VERSION}")
    return folder


def cached_page(key: str) -> Path:
    """The folder in the user's cache for today's page of the model with this key; it may not exist yet."""
    content = b"".join(path.read_bytes() for path in sorted(PAGE.iterdir()))
    return cache_dir() / "web" / hashlib.sha256(f"{VERSION} {key}".encode() + content).hexdigest()[:32]


def integrity(data: bytes) -> str:
    """The hash of a file in the form that browsers check."""
    return f"sha384-{base64.b64encode(hashlib.sha384(data).digest()).decode()}"


def write_page(folder: Path, facts: Mapping[str, Any], page: WebPage) -> None:
    """Write the page's files beside the folder's `model.onnx`; `facts` are the metadata of that file."""
    for path in PAGE.iterdir():
        shutil.copyfile(path, folder / path.name)
    for name, data in page.files.items():
        (folder / name).write_bytes(data)
    if runtime := find_runtime(page.ort):
        (folder / "ort").mkdir()
        for name in RUNTIME:
            shutil.copyfile(runtime / name, folder / "ort" / name)
    source = {"version": VERSION, "base": "ort/" if runtime else CDN, "files": RUNTIME}
    about = {**facts, **page.facts, "runtime": source}
    (folder / FACTS).write_text(json.dumps(about, ensure_ascii=False, allow_nan=False, indent=1), encoding="utf-8")
