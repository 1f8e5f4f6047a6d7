"""Files here or at an address that Arrow's file systems read (s3://, gs://, hdfs://, file://), and tar shards of them.

Shards have WebDataset's layout: tar files, compressed or not, in which the files of a sample share a name before the
first dot. Their photos are read in order, without seeking.
"""

import functools
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, NamedTuple
from urllib.parse import urlsplit

from apps.common.data.photos import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from backbone.files import open_plain

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")
PHOTO_SUFFIXES = IMAGE_SUFFIXES | UNREAD_SUFFIXES  # the last get a message
MOST_BYTES = 256 * 2**20  # of a photo in a shard
MOST_HEADER = 2**20  # of a name, or of what else stands before a file in an archive
HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
HEADERS += (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)  # type: ignore[assignment]
DAMAGE = (tarfile.TarError, EOFError, ValueError, RecursionError, zlib.error, lzma.LZMAError)


class File(NamedTuple):
    """A file.

    Attributes:
        path: of a local file as it was given; at an address, what comes behind the host or bucket.
        root: "" for a local file, else the address without the path, with all that is needed to log in.
        size: of a shard, bytes; 0 of a photo.
    """

    path: str
    root: str = ""
    size: int = 0

    @property
    def name(self) -> str:
        """For display and for the table: the path or address, without secrets."""
        parts = urlsplit(self.root)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{self.path}" if self.root else self.path

    @property
    def is_shard(self) -> bool:
        return self.path.lower().endswith(SHARD_SUFFIXES)

    def open(self) -> BinaryIO:
        """A stream of its bytes; OSError if it cannot be read."""
        if not self.root:
            return open_plain(Path(self.path))
        files, base = file_system(self.root)
        return files.open_input_stream(base + self.path, compression=None)


def at_address(text: str) -> File:
    """The file or folder that an address means; its path is taken as it stands: nothing in it is escaped."""
    parts = urlsplit(text, allow_fragments=False)
    root = f"{parts.scheme}://{parts.netloc}/" + (f"?{parts.query}" if parts.query else "")
    return File(parts.path.strip("/"), root)


@functools.lru_cache(maxsize=64)
def file_system(root: str) -> tuple[Any, str]:
    """Arrow's file system of an address, and what stands before the paths in it."""
    from pyarrow.fs import FileSystem

    files, base = FileSystem.from_uri(root)
    return files, base.rstrip("/") + "/"


def list_address(text: str) -> list[File]:
    """The file at an address, or all files in a folder or bucket, in the order of their names; hidden ones apart.

    Raises:
        ValueError: there is none, or the address cannot be read.
    """
    import pyarrow
    from pyarrow.fs import FileSelector, FileType

    given = at_address(text)
    try:
        files, base = file_system(given.root)
        info = files.get_file_info(base + given.path)
        if info.type == FileType.File:
            return [given._replace(size=info.size or 0)]
        if info.type == FileType.NotFound:
            raise ValueError(f"{given.name}: there is no such file or folder")
        inside = files.get_file_info(FileSelector(base + given.path, recursive=True))
    except (OSError, pyarrow.ArrowException) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{given.name} cannot be read: {why[:200]}") from None
    paths = sorted((info.path.removeprefix(base), info.size) for info in inside if info.type == FileType.File)
    start = len(given.path)
    return [
        File(path, given.root, size or 0)
        for path, size in paths
        if not any(part.startswith(".") or part == "__MACOSX" for part in path[start:].split("/"))
    ]


class _Member(tarfile.TarInfo):
    """A member that is as small as it may be, of an archive that has an end, or only stops."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_Member":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            tarfile_.has_end = True  # type: ignore[attr-defined]
            raise

    def _proc_member(self, shard: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in HEADERS and self.size > MOST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(shard)  # type: ignore[misc]

    def _block(self, count: int) -> int:
        if not 0 <= count < 2**60:  # else it would be read again and again from an earlier place
            raise tarfile.ReadError(f"a member of {count:,} bytes")
        return super()._block(count)  # type: ignore[misc]


@contextmanager
def open_tar(stream: BinaryIO, mode: Literal["r|*", "r:"]) -> Iterator[tarfile.TarFile]:
    """A tar file that a stranger may have made, whose members are to be gone through in the block.

    Raises:
        ValueError: it is damaged; also after its last member.
    """
    try:
        with tarfile.open(fileobj=stream, mode=mode, tarinfo=_Member) as shard:
            yield shard
            if not hasattr(shard, "has_end"):
                raise tarfile.ReadError("its end is missing")
    except DAMAGE as error:
        raise ValueError(f"it is damaged: {error}") from None


def read_shard(stream: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Yield the names and bytes of the photos in a shard, in order.

    Raises:
        ValueError: it is damaged, or a photo is said to have more than `MOST_BYTES`; what came before is good.
    """
    with open_tar(stream, "r|*") as shard:
        for member in shard:
            path = PurePosixPath(member.name)
            if not member.isreg() or path.suffix.lower() not in PHOTO_SUFFIXES or path.name.startswith("."):
                continue
            if member.size > MOST_BYTES:
                raise ValueError(f"{member.name} in it has {member.size:,} bytes")
            file = shard.extractfile(member)
            assert file is not None, "a regular file"
            yield member.name, file.read()
            shard.members.clear()  # type: ignore[attr-defined]  # else it keeps a record of each
