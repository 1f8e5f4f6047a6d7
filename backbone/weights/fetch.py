"""Downloads of published weights into the user's cache, verified before they are kept.

A file that is already there, put by an earlier download or by hand, is verified and used.
"""

import hashlib
import http.client
import importlib.util
import sys
import urllib.error
import urllib.request
from pathlib import Path

from backbone.files import cache_dir, written_whole
from backbone.weights.catalog import WeightFile
from backbone.weights.file_kinds import first_line, import_when_needed, kind_of, unpack

TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 18


def weights_dir() -> Path:
    """Where downloads go: `weights` in the user's cache."""
    return cache_dir() / "weights"


def is_fetched(entry: WeightFile) -> bool:
    """Whether `fetch` finds the file of an entry on this machine, by an earlier download or put there by hand."""
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
        ValueError: it cannot be downloaded (the message says which file to put where), or what is there or arrives
            has another size or hash than published.
    """
    path = weights_dir() / entry.file_name
    if path.is_file():
        verify(entry, path, where=str(path))
        return path
    try:
        if entry.hub_repo:
            return _from_hub(entry)
        _download(entry, path)
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        text = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else first_line(reason)
        raise ValueError(
            f"cannot download {entry.name} ({text}): put the file from {entry.url} at {path} and run again"
        ) from error
    return path


def verify(entry: WeightFile, path: Path, *, where: str) -> None:
    """Check a file against the size and hashes of its catalog entry, as far as they are known.

    Args:
        where: what errors call the file.

    Raises:
        ValueError: they differ; the message has what was published and what was found.
    """
    data = path.read_bytes()
    if entry.size is not None and len(data) != entry.size:
        raise ValueError(f"{where}: refused: it has {len(data)} bytes, {entry.name} has {entry.size}")
    if kind_of(data) is None:
        raise ValueError(f"{where}: refused: no weight file, it starts with {data[:12]!r}")
    if entry.digest:
        _check_digest(entry, data, entry.digest, f"{where}: refused: it")
    if entry.inner_digest or not entry.digest:
        content, _ = unpack(data, name=where)  # which also refuses an archive that was cut short
        if entry.inner_digest:
            _check_digest(entry, content, entry.inner_digest, f"{where}: refused: the file in it")


def _check_digest(entry: WeightFile, data: bytes, published: str, subject: str) -> None:
    algorithm, expected = published.split(":")
    found = hashlib.new(algorithm, data).hexdigest()
    if found != expected:
        raise ValueError(f"{subject} has {algorithm} {found}, {entry.name} has {expected}")


def _download(entry: WeightFile, path: Path) -> None:
    """Write the file at `entry.url` to `path` once all of it has come and is what was published."""
    tqdm = import_when_needed("tqdm", package="tqdm", purpose="the progress bar of a download").tqdm
    request = urllib.request.Request(entry.url, headers={"User-Agent": "mobilenet-apps"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response, written_whole(path) as partial:
        announced = response.headers.get("Content-Length")
        total = int(announced) if announced else entry.size
        print(f"downloading {entry.url} to {path}", file=sys.stderr)
        received = 0
        with open(partial, "wb") as file, tqdm(total=total, unit="B", unit_scale=True, desc=entry.name) as bar:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                received += len(chunk)
                bar.update(len(chunk))
        if total is not None and received != total:
            raise ConnectionError(f"{received} of {total} bytes came")
        verify(entry, partial, where=entry.url)


def _from_hub(entry: WeightFile) -> Path:
    """The file of a Hugging Face repository in the hub's own cache, downloaded by huggingface_hub where needed."""
    hub = import_when_needed("huggingface_hub", package="huggingface_hub", purpose=f"fetching {entry.name}")
    file = entry.url.rsplit("/", 1)[-1]
    cached = hub.try_to_load_from_cache(entry.hub_repo, file)
    if not isinstance(cached, str):
        if not hub.constants.HF_HUB_OFFLINE:
            # The hub retries for half a minute before it reports that there is no network: ask once first.
            head = urllib.request.Request(hub.hf_hub_url(entry.hub_repo, file), method="HEAD")
            urllib.request.urlopen(head, timeout=TIMEOUT_SECONDS).close()
        cached = hub.hf_hub_download(entry.hub_repo, file)
    verify(entry, Path(cached), where=cached)
    return Path(cached)
