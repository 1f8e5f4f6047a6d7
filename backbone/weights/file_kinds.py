"""The kind of a weight file, recognised by its first bytes, and the one weight file inside an archive."""

import io
import struct
import tarfile
import zipfile
import zlib
from importlib import import_module
from types import ModuleType
from typing import Literal

Kind = Literal["keras", "tflite", "safetensors", "torch", "zip", "tar"]
WEIGHT_KINDS = ("keras", "tflite", "safetensors", "torch")
MAX_MEMBER_BYTES = 1 << 30  # of a file in an archive; the largest MobileNet V1 has 0.03 GB

_HDF5 = b"\x89HDF\r\n\x1a\n"
_OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # before torch 1.6: a pickled magic number comes first


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
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError):
        return False


def unpack(data: bytes, *, name: str) -> tuple[bytes, str]:
    """The one weight file in a zip or tar archive, and what to call it. Bytes of other kinds are returned as they are.

    Raises:
        ValueError: the archive is damaged, or holds no weight file, or several.
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
        ValueError,
    ) as error:
        raise ValueError(f"{name}: truncated or damaged archive ({first_line(error)})") from error
    if len(members) != 1:
        found = f"{len(members)} weight files ({', '.join(sorted(members))})" if members else "no weight file"
        raise ValueError(f"{name}: holds {found}; unpack it and give one")
    ((member, content),) = members.items()
    return content, f"{name}/{member}"


def _zip_members(data: bytes) -> dict[str, bytes]:
    members = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if not info.is_dir() and (content := _weights(archive.read(info) if _fits(info.file_size) else b"")):
                members[info.filename] = content
    return members


def _tar_members(data: bytes) -> dict[str, bytes]:
    members = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            file = archive.extractfile(info) if info.isfile() and _fits(info.size) else None
            if file and (content := _weights(file.read())):
                members[info.name] = content
    return members


def _fits(size: int) -> bool:
    return 0 < size <= MAX_MEMBER_BYTES


def _weights(content: bytes) -> bytes | None:
    return content if kind_of(content) in WEIGHT_KINDS else None


def first_line(error: object) -> str:
    """The first line of an error of another library, without the advice that follows it."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def import_when_needed(module: str, *, package: str, purpose: str) -> ModuleType:
    """Import a library that only some weight files need.

    Raises:
        ValueError: it is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError(f"{purpose} needs {package}: pip install {package}") from error
