"""Downloads of published weights into the user's cache, verified before they are kept.

A file that is already there, put by an earlier download or by hand, is verified and used.
"""

import contextlib
import functools
import hashlib
import http.client
import importlib.util
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from backbone.files import cache_dir, written_whole
from backbone.mobilenet_v1 import create_backbone
from backbone.text import reason_of
from backbone.weights.catalog import WeightFile
from backbone.weights.file_kinds import import_when_needed, kind_of, one_line, other_kind, unpack
from backbone.weights.loaded_weights import check_width
from backbone.weights.read import read_bytes, read_weights

TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 18


def weights_dir() -> Path:
    """Where downloads go: `weights` in the user's cache."""
    return cache_dir() / "weights"


def is_fetched(entry: WeightFile) -> bool:
    """Whether the file of an entry is on this machine, from an earlier download or put there by hand."""
    if (weights_dir() / entry.file_name).is_file():
        return True
    if entry.hub_repo is None or importlib.util.find_spec("huggingface_hub") is None:
        return False
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(entry.hub_repo, entry.url.rsplit("/", 1)[-1]), str)


def fetch(entry: WeightFile) -> Path:
    """The file of a catalog entry on this machine, in `weights_dir()`, downloaded if it is not there yet.

    Returns:
        Path of the verified file: as published, archives not unpacked. Files of the Hugging Face hub are in its own
        cache, where timm finds them too.

    Raises:
        ValueError: it cannot be downloaded (the message says which file to put where), or the file has another size
            or hash than published.
    """
    path = weights_dir() / entry.file_name
    if entry.hub_repo and not path.is_file():
        with _one_line(entry.name, entry.url, path):
            return _from_hub(entry)
    check = functools.partial(verify, entry)
    return _fetched(entry.url, path, name=entry.name, size=entry.size, most=_most_bytes(entry), check=check)


def fetch_file(url: str, *, size: int, sha256: str) -> Path:
    """A published file other than backbone weights, in `weights_dir()`, downloaded if it is not there yet.

    Raises:
        ValueError: as `fetch`.
    """
    name = url.rsplit("/", 1)[-1]

    def check(path: Path, *, where: str) -> None:
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise ValueError(f"{where}: refused: its sha256 is not {sha256}")

    return _fetched(url, weights_dir() / name, name=name, size=size, most=size, check=check)


def _fetched(url: str, path: Path, *, name: str, size: int | None, most: int, check: Callable[..., None]) -> Path:
    """The checked file at `path`, downloaded if it is not there; see `_download`."""
    if path.is_file():
        try:
            check(path, where=str(path))
        except ValueError as error:
            raise ValueError(f"{error}; delete the file to download it again") from error
        return path
    with _one_line(name, url, path):
        _download(url, path, name=name, size=size, most=most, check=check)
    return path


@contextlib.contextmanager
def _one_line(name: str, url: str, path: Path) -> Iterator[None]:
    """Report in one line why a file cannot be downloaded, and what to do."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        text = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else reason_of(reason)
        raise ValueError(f"cannot download {name} ({text}): put the file from {url} at {path} and run again") from error


def verify(entry: WeightFile, path: Path, *, where: str) -> None:
    """Check a file against the size and hashes of its catalog entry; one without a known hash is read as weights.

    Args:
        where: the file's name in errors.

    Raises:
        ValueError: they differ (the message has both), or the file cannot be read or has another width.
    """
    if entry.size is not None and (size := path.stat().st_size) != entry.size:
        raise ValueError(f"{where}: refused: it has {size} bytes, {entry.name} has {entry.size}")
    data = read_bytes(path)
    if kind_of(data) is None:
        what = f"but {kind}" if (kind := other_kind(data)) else f"it starts with {data[:12]!r}"
        raise ValueError(f"{where}: refused: no weight file, {what}")
    if entry.digest:
        _check_digest(entry, data, entry.digest, f"{where}: refused: it")
    if entry.inner_digest:
        content, _ = unpack(data, name=where)
        _check_digest(entry, content, entry.inner_digest, f"{where}: refused: the file in it")
    if not entry.digest and not entry.inner_digest:  # only reading it can show that it is complete
        check_width(read_weights(data, name=where), entry.width_mult)


def _check_digest(entry: WeightFile, data: bytes, published: str, subject: str) -> None:
    algorithm, expected = published.split(":")
    found = hashlib.new(algorithm, data).hexdigest()
    if found != expected:
        raise ValueError(f"{subject} has {algorithm} {found}, {entry.name} has {expected}")


class _SecureRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to http."""

    def redirect_request(self, request: Any, response: Any, code: int, message: str, headers: Any, url: str) -> Any:
        if request.type == "https" and not url.startswith("https:"):
            raise urllib.error.URLError(f"redirected from https to {one_line(url)}")
        return super().redirect_request(request, response, code, message, headers, url)


def _open(request: urllib.request.Request) -> Any:
    urllib.request.install_opener(urllib.request.build_opener(_SecureRedirects))  # what `urlopen` uses
    return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)


def _most_bytes(entry: WeightFile) -> int:
    """Ten times the expected size: float32 parameters, of which Google's archives hold six copies."""
    if entry.size is not None:
        return 10 * entry.size
    with torch.device("meta"):  # shapes only
        model = create_backbone(entry.backbone, num_classes=entry.num_classes)
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    return 10 * size * (6 if entry.url.endswith(".tgz") else 1)


def _length(response: Any, most: int) -> int | None:
    """The length that a server announces; None if it announces none.

    Raises:
        ConnectionError: it is not a number, or above `most`.
    """
    announced = response.headers.get("Content-Length")
    if announced is None:
        return None
    if not announced.strip().isdecimal():
        raise ConnectionError(f"the server announces a length of {one_line(announced)!r}")
    if int(announced) > most:
        raise ConnectionError(f"the server announces {int(announced):,} bytes, more than {most:,} cannot be right")
    return int(announced)


def _download(url: str, path: Path, *, name: str, size: int | None, most: int, check: Callable[..., None]) -> None:
    """Download the file at `url` to `path`, which exists only once the file is complete and checked.

    Args:
        size, most: its expected size, and the limit at which the download is aborted, in bytes.
        check: called with the path of the download and `where` it came from.
    """
    tqdm = import_when_needed("tqdm", package="tqdm", purpose="the progress bar of a download").tqdm
    request = urllib.request.Request(url, headers={"User-Agent": "mobilenet-apps"})
    with _open(request) as response, written_whole(path) as partial:
        total = _length(response, most) or size
        print(f"downloading {url} to {path}", file=sys.stderr)
        received = 0
        with open(partial, "wb") as file, tqdm(total=total, unit="B", unit_scale=True, desc=name) as bar:
            while chunk := response.read(CHUNK_BYTES):
                received += len(chunk)
                if received > most:
                    raise ConnectionError(f"more than {most:,} bytes were sent, which cannot be right")
                file.write(chunk)
                bar.update(len(chunk))
        if total is not None and received != total:
            raise ConnectionError(f"{received} of {total} bytes were received")
        check(partial, where=url)


def _from_hub(entry: WeightFile) -> Path:
    """The file of a Hugging Face repository in the hub's own cache, downloaded by huggingface_hub where needed."""
    hub = import_when_needed("huggingface_hub", package="huggingface_hub", purpose=f"fetching {entry.name}")
    file = entry.url.rsplit("/", 1)[-1]
    cached = hub.try_to_load_from_cache(entry.hub_repo, file)
    if not isinstance(cached, str):
        if not hub.constants.HF_HUB_OFFLINE:
            # The hub retries for half a minute before it reports that there is no network: try once first.
            head = urllib.request.Request(hub.hf_hub_url(entry.hub_repo, file), method="HEAD")
            _open(head).close()
        cached = hub.hf_hub_download(entry.hub_repo, file)
    verify(entry, Path(cached), where=cached)
    return Path(cached)
