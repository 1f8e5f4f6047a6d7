"""The kind of a weight file, recognised by its first bytes; the one weight file inside an archive; limits of size.

A small file must not unpack to gigabytes: readers count the declared sizes in a `Budget` before they allocate memory,
and read no more than was counted.
"""

import gzip
import io
import re
import struct
import tarfile
import zipfile
import zlib
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import IO, Literal, cast

from backbone.text import reason_of

Kind = Literal["keras", "tflite", "safetensors", "torch", "zip", "tar"]
WEIGHT_KINDS = ("keras", "tflite", "safetensors", "torch")
# Of a file, of the content of an archive, and of its tensors: the largest published ones have 0.1 GB.
MAX_BYTES = 1 << 30
MAX_MEMBERS = 10_000  # of an archive; those of published ones are ten or less
MAX_READ_BYTES = 1 << 20  # of a tar at once

_HDF5 = b"\x89HDF\r\n\x1a\n"
_OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # before torch 1.6: a pickled magic number comes first


_UNPACK = "compressed by {}: unpack it and give what is in it"
_OTHERS = (  # files that are often taken for weight files, by their first bytes
    (rb"version https://git-lfs", "a Git LFS pointer to the file: run `git lfs pull` in its repository"),
    (rb"\s*(<!--.*?-->\s*)?<(!doctype html|html|head|body)", "a web page about the file: download the file itself"),
    (rb"\s*<", "an XML document"),
    (rb"\s*[\[{]", "JSON text"),
    (rb"BZh[1-9]", _UNPACK.format("bzip2")),
    (rb"\xfd7zXZ\x00", _UNPACK.format("xz")),
    (rb"\x28\xb5\x2f\xfd", _UNPACK.format("zstd")),
    (rb"7z\xbc\xaf\x27\x1c", _UNPACK.format("7-Zip")),
    (rb"Rar!", _UNPACK.format("RAR")),
    (rb"\x80[\x02-\x05]", "a pickle of Python objects, which are not executed: save a state dict by torch.save"),
    (rb"\x93NUMPY", "an array of NumPy"),
    (rb"\x08[\x03-\x20]", "an ONNX model, perhaps: these are given as --checkpoint"),
)


def other_kind(start: bytes) -> str:
    """The kind of a file that is not a weight file, from its first bytes; "" if unknown."""
    start = start[:1000].removeprefix(b"\xef\xbb\xbf")
    return next((what for mark, what in _OTHERS if re.match(mark, start, re.IGNORECASE | re.DOTALL)), "")


class TooLargeError(ValueError):
    """A file that would take too much memory."""


class Budget:
    """Counts bytes; `take` raises once there are more than the limit."""

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self.limit = self.left = limit

    def take(self, num_bytes: int, what: str) -> None:
        """Count `num_bytes` of `what`, before they are allocated.

        Raises:
            TooLargeError: the total is above the limit; the message says with what, and the total.
        """
        self.left -= max(num_bytes, 0)
        if self.left < 0:
            total = (self.limit - self.left) / 1e6
            raise TooLargeError(
                f"too large: with {what} it has {total:,.0f} MB in memory, {self.limit / 1e6:,.0f} MB are allowed"
            )


def one_line(text: str) -> str:
    """A message as one printable line of at most 400 characters; names in a file may contain anything."""
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return line if len(line) <= 400 else f"{line[:300]} ... {line[-80:]}"


def kind_of(data: bytes) -> Kind | None:
    """The kind of a file from its content (its first bytes, and for a zip its table of contents); None if unknown."""
    if data.startswith(_HDF5):
        return "keras"
    if data[4:8] == b"TFL3":
        return "tflite"
    if len(data) > 8 and data[8:9] == b"{" and struct.unpack_from("<Q", data)[0] < len(data):
        return "safetensors"
    if data.startswith(_OLD_TORCH):
        return "torch"
    if data.startswith(b"PK\x03\x04"):
        return "torch" if _is_torch_zip(data) else "zip"
    if data.startswith(b"\x1f\x8b") or data[257:262] == b"ustar":
        return "tar"
    return None


def _is_torch_zip(data: bytes) -> bool:
    if data.count(b"PK\x01\x02") > MAX_MEMBERS:
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError):
        return False


def unpack(data: bytes, *, name: str) -> tuple[bytes, str]:
    """The one weight file in a zip or tar archive, and its name in errors. Other content is returned as it is.

    Raises:
        ValueError: the archive is damaged, or holds no weight file, or several, or unpacks to too much.
    """
    kind = kind_of(data)
    if kind not in ("zip", "tar"):
        return data, name
    try:
        members = _zip_members(data) if kind == "zip" else _tar_members(data)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        struct.error,
        EOFError,
        OSError,
        NotImplementedError,  # a method of compression that zipfile lacks
        RuntimeError,  # encrypted
        OverflowError,
        ValueError,
    ) as error:
        if _is_gzip_alone(data):
            raise ValueError(f"{name}: is {_UNPACK.format('gzip')}") from error
        raise ValueError(
            f"{name}: truncated or damaged archive, or one to unpack first ({reason_of(error)})"
        ) from error
    if len(members) != 1:
        found = f"{len(members)} weight files ({', '.join(sorted(members))})" if members else "no weight file"
        raise ValueError(f"{name}: holds {found}; unpack it and give one")
    ((member, content),) = members.items()
    return content, f"{name}/{member}"


def check_zip(data: bytes, budget: Budget) -> None:
    """Count the declared unpacked size of a zip.

    Raises:
        ValueError: it is too large, or compressed by a method that bounds no output. zipfile.BadZipFile: damaged.
    """
    if data.count(b"PK\x01\x02") > MAX_MEMBERS:  # before zipfile creates an object for each
        raise ValueError(f"more than {MAX_MEMBERS:,} files in it")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            budget.take(info.file_size, f"{info.filename} unpacked")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{info.filename} is compressed by method {info.compress_type}")


def _zip_members(data: bytes) -> dict[str, bytes]:
    check_zip(data, Budget())
    members = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            with archive.open(info) as file:  # `read(n)` inflates n bytes, `read()` all there is
                if content := _weights(file.read(info.file_size)):
                    members[info.filename] = content
    return members


def _tar_members(data: bytes) -> dict[str, bytes]:
    source = gzip.GzipFile(fileobj=io.BytesIO(data)) if data.startswith(b"\x1f\x8b") else io.BytesIO(data)
    budget, members = Budget(), {}
    with tarfile.open(fileobj=cast(IO[bytes], _SmallReads(source)), mode="r:") as archive:
        for number, info in enumerate(archive):
            if number == MAX_MEMBERS:
                raise ValueError(f"more than {MAX_MEMBERS:,} files in it")
            budget.take(info.size, f"{info.name} unpacked")
            file = archive.extractfile(info) if info.isfile() else None
            if file and (content := _weights(b"".join(iter(partial(file.read, MAX_READ_BYTES), b"")))):
                members[info.name] = content
    return members


def _is_gzip_alone(data: bytes) -> bool:
    """Whether the data is compressed by gzip and is not a tar archive."""
    try:
        start = gzip.GzipFile(fileobj=io.BytesIO(data)).read(512)
    except (OSError, EOFError, zlib.error):
        return False
    return kind_of(start + bytes(512)) != "tar"


class _SmallReads(io.RawIOBase):
    """A file that refuses large single reads, such as a tar header that declares to be long."""

    def __init__(self, file: io.BytesIO | gzip.GzipFile) -> None:
        self.file = file
        self.budget = Budget()

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_READ_BYTES:
            raise ValueError(f"a header of {size / 1e6:,.0f} MB")
        self.budget.take(size, "what was read of it")
        return self.file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()


def _weights(content: bytes) -> bytes | None:
    return content if kind_of(content) in WEIGHT_KINDS else None


def import_when_needed(module: str, *, package: str, purpose: str) -> ModuleType:
    """Import a library that only some weight files require.

    Raises:
        ValueError: it is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError(f"{purpose} needs {package}: pip install {package}") from error
