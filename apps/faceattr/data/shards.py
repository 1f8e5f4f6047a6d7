"""Photos in tar shards (WebDataset's layout), read at their places in an order that goes through each shard once.

A first pass reads a shard from end to end and leaves an index in the cache: where each photo is, and its hash. The
indices are files that are mapped: neither photos nor hashes are held in memory, and a start with known shards is quick.
"""

import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from tqdm import tqdm

from apps.common.checkpoint import load_json, save_json
from apps.common.cli import plain_message, printable
from apps.common.data.photos import is_photo_name, walk
from apps.common.headers import is_truncated
from apps.common.images import decode_image
from apps.common.media.cluster.shards import MOST_BYTES, open_tar
from apps.common.training.distributed import Processes
from backbone.files import cache_dir, open_plain, written_whole

HASH_BYTES = 16
PHOTO = np.dtype([("shard", "<u4"), ("offset", "<u8"), ("size", "<u4"), ("digest", "u1", HASH_BYTES)])
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
INDEX, PROBLEMS = "photos.npy", "problems.json"


def content_hash(data: bytes) -> bytes:
    """Of a photo's file."""
    return hashlib.blake2b(data, digest_size=HASH_BYTES).digest()


def part_shards(sources: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Sources of single photos, and the tar shards that are given or lie in given folders, each once.

    Raises:
        ValueError: a shard is packed.
    """
    others, shards = list[Path](), dict[str, Path]()
    for source in sources:
        files = list(walk(source)) if source.is_dir() else [source]
        if packed := [file for file in files if file.name.lower().endswith(PACKED)]:
            raise ValueError(f"{packed[0]} is packed, and photos in it have no place to be read at: unpack it to .tar")
        found = [file for file in files if file.suffix.lower() == ".tar"]
        shards |= {os.path.abspath(file): file for file in sorted(found)}
        if not found or any(is_photo_name(file.name) for file in files):
            others.append(source)
    return others, list(shards.values())


class ShardSet:
    """N photos of some shards, in their order.

    Attributes:
        shards: the tar files.
        photos: (N,) of `PHOTO`, mapped from a file that has no name.
        problems: a sentence for each photo that cannot be read; these are not among the photos.
        num_known: photos that were left out.
    """

    def __init__(self, shards: Sequence[Path], processes: Processes, *, known: Collection[bytes] = ()) -> None:
        """Index the shards that have no index; each of the processes takes its share.

        Args:
            known: hashes of photos that are left out.

        Raises:
            ValueError: a shard is missing, no tar file, or damaged.
        """
        self.shards = list(shards)
        mine = tqdm(processes.share(self.shards), desc="indexing shards", unit="shard", leave=False, delay=2.0)
        processes.gather([str(_indexed(path)) for path in mine], len(self.shards))  # all wait for all
        indices = [np.load(_indexed(path) / INDEX, mmap_mode="r") for path in self.shards]
        self.problems = [problem for path in self.shards for problem in load_json(_indexed(path) / PROBLEMS)]
        self.photos = mapped((sum(map(len, indices)),), PHOTO)
        left_out = np.frombuffer(b"".join(known), f"V{HASH_BYTES}")
        end = 0
        for number, index in enumerate(indices):
            own = np.array(index)
            own["shard"] = number
            own = own[~np.isin(own["digest"].copy().view(left_out.dtype).ravel(), left_out)]
            self.photos[end : end + len(own)] = own
            end += len(own)
        self.num_known = len(self.photos) - end
        self.photos = self.photos[:end]

    def __len__(self) -> int:
        return len(self.photos)

    def name(self, i: int) -> Path:
        """Of a photo: its shard's path, and its own name in it."""
        shard = self.shards[self.photos[i]["shard"]]
        with open_plain(shard) as file:
            file.seek(int(self.photos[i]["offset"]) - tarfile.BLOCKSIZE)
            return shard / tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape").name

    def read(self, i: int) -> np.ndarray:
        """A photo (H, W, 3) uint8 RGB; ValueError if its shard is not what it was."""
        photo = self.photos[i]
        with open_plain(self.shards[photo["shard"]]) as file:
            file.seek(int(photo["offset"]))
            data = file.read(int(photo["size"]))
        if content_hash(data) != photo["digest"].tobytes():
            raise ValueError(f"{self.shards[photo['shard']]} changed while it was read: begin again")
        return decode_image(data, self.name(i))


def mapped(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array of zeros in a file without a name, which the system may write out and read again.

    Raises:
        ValueError: the disk has no room for it.
    """
    cache_dir().mkdir(parents=True, exist_ok=True)
    size = int(np.prod(shape)) * dtype.itemsize
    with tempfile.TemporaryFile(dir=cache_dir()) as file:
        if size and hasattr(os, "posix_fallocate"):  # else a full disk would end the process where it writes
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise ValueError(f"{cache_dir()} has no room for {size:,} bytes: {error.strerror}") from None
        return np.memmap(file, dtype, "w+", shape=shape) if size else np.zeros(shape, dtype)


def _indexed(path: Path) -> Path:
    """The folder of a shard's index, which is made if it is not there."""
    try:
        stat = path.stat()
    except OSError as error:
        raise ValueError(f"shard {path} cannot be read: {error.strerror}") from None
    key = content_hash(
        f"{os.path.abspath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}".encode("utf-8", "surrogateescape")
    )
    folder = cache_dir() / "shards" / key.hex()
    if not (folder / PROBLEMS).is_file():
        problems: list[str] = []
        found = np.array(list(_read_index(path, problems)), PHOTO)
        with written_whole(folder, folder=True) as temporary:
            np.save(temporary / INDEX, found)
            save_json(temporary / PROBLEMS, problems)
    return folder


def _read_index(path: Path, problems: list[str]) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """A row of `PHOTO` for each photo; photos that cannot be read are added to the problems."""
    try:
        with open_plain(path) as file, open_tar(file, "r:") as shard:
            for member in shard:
                name = PurePosixPath(member.name)
                said = printable(f"{path}/{member.name:.200}")
                if not is_photo_name(name.name) or member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    problems.append(f"{said} is no plain file")
                elif member.size > MOST_BYTES:
                    problems.append(f"{said} has {member.size:,} bytes, {MOST_BYTES:,} are allowed")
                else:
                    content = shard.extractfile(member)
                    assert content is not None, "a plain file"
                    data = content.read()
                    if problem := _problem_of(data, said):
                        problems.append(problem)
                    else:
                        yield 0, member.offset_data, len(data), np.frombuffer(content_hash(data), np.uint8)
                shard.members.clear()  # type: ignore[attr-defined]  # else it keeps a record of each
    except (ValueError, OSError) as error:
        raise ValueError(f"shard {path} is no whole tar file: {plain_message(error)}") from None


def _problem_of(data: bytes, name: str) -> str:
    """Why a photo cannot be read, at a glance; "" if it can."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if all(picture.size) and not is_truncated(data):
                return ""
    except Exception:  # Pillow raises many kinds for a damaged header; `decode_image` decides
        pass
    try:
        decode_image(data, name)
    except ValueError as error:
        return printable(str(error))
    return ""
