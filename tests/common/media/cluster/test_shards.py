import io
import tarfile
from pathlib import Path

import pytest

from apps.common.media.cluster.shards import MOST_BYTES, File, at_address, list_address, open_tar, read_shard
from tests.common.media.cluster.shard_files import write_shard
from tests.common.media_files import write_photo

SAMPLES = {"a/0.jpg": b"zero", "a/0.json": b"{}", "a/1.seg.png": b"one", "a/.2.jpg": b"hidden", "b/3.JPEG": b"three"}
PHOTOS = [("a/0.jpg", b"zero"), ("a/1.seg.png", b"one"), ("b/3.JPEG", b"three")]


def photos_of(path: Path) -> list[tuple[str, bytes]]:
    with File(str(path)).open() as stream:
        return list(read_shard(stream))


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz"])
def test_the_photos_of_a_shard_are_read_in_order(tmp_path, name):
    path = write_shard(tmp_path / name, SAMPLES)
    assert File(str(path)).is_shard
    assert photos_of(path) == PHOTOS


def test_a_shard_of_webdataset_is_read(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "x.tar")) as writer:
        for i in range(3):
            writer.write({"__key__": f"{i:03d}", "jpg": b"photo %d" % i, "cls": i})
    assert photos_of(tmp_path / "x.tar") == [(f"{i:03d}.jpg", b"photo %d" % i) for i in range(3)]


@pytest.mark.parametrize(("name", "kept"), [("x.tar", 0.6), ("x.tar", 0.9), ("x.tar.gz", 0.6), ("x.tar.gz", 0.9)])
def test_what_comes_before_the_damage_is_read(tmp_path, name, kept):
    photos = {f"{i}.jpg": bytes(range(256)) * 64 for i in range(8)}
    path = write_shard(tmp_path / name, photos)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    found = []
    with pytest.raises(ValueError, match=r"^it is damaged: "), path.open("rb") as stream:
        for one in read_shard(stream):
            found.append(one)
    assert found == list(photos.items())[: len(found)]
    assert found or name == "x.tar.gz"


def test_what_is_no_shard_is_damaged(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"no tar " * 1000)
    with pytest.raises(ValueError, match=r"^it is damaged: "):
        photos_of(tmp_path / "x.tar")


def _about(name: str, size: int = 0, **facts: object) -> bytes:
    about = tarfile.TarInfo(name)
    about.size = size
    for key, value in facts.items():
        setattr(about, key, value)
    return about.tobuf(tarfile.GNU_FORMAT)


PHOTO, END = _about("a.jpg", 512) + b"x" * 512, bytes(1024)
DAMAGED = {  # what comes behind a photo in a tar file, and why it is damaged
    "garbage": (b"garbage!" * 64 + PHOTO + END, "its end is missing"),
    "cut": (b"", "its end is missing"),
    "cut in a header": (PHOTO[:100], "its end is missing"),
    "itself again": (_about("b.jpg", -512) + END, "a member of -512 bytes"),
    "beyond all disks": (_about("b.txt", 2**62) + END, "a member of 4,611,686,018,427,387,904 bytes"),
    "a long name": (_about("././@LongLink", 10**12, type=b"L") + END, "a header of 1,000,000,000,000 bytes"),
    "many names": ((_about("././@LongLink", 2, type=b"L") + b"a\0" + bytes(510)) * 1500 + PHOTO + END, "recursion"),
    "no number": (_about("././@PaxHeader", 25, type=b"x") + b"25 GNU.sparse.map=0,zz,1\n".ljust(512, b"\0"), ""),
}


@pytest.mark.parametrize("mode", ["r|*", "r:"])
@pytest.mark.parametrize("case", DAMAGED)
def test_what_a_stranger_may_have_made(case, mode):
    """A reader at places (of training) and one of streams (on Ray) lose no photo silently, and none reads forever."""
    behind, said = DAMAGED[case]
    names = []
    with pytest.raises(ValueError, match=f"^it is damaged: .*{said}"):
        with open_tar(io.BytesIO(PHOTO + behind), mode) as shard:
            for member in shard:
                names.append(member.name)
                assert len(names) < 10
    assert names[:1] == ["a.jpg"]


def test_a_photo_of_many_megabytes_is_refused_before_it_is_read():
    about = tarfile.TarInfo("big.jpg")
    about.size = MOST_BYTES + 1
    with pytest.raises(ValueError, match=r"big\.jpg in it has 268,435,457 bytes"):
        list(read_shard(io.BytesIO(about.tobuf())))


def test_an_address_is_shown_without_secrets():
    file = at_address("s3://KEY:SECRET@bucket/a folder/#1.jpg?endpoint_override=localhost%3A9000")
    assert file == File("a folder/#1.jpg", "s3://KEY:SECRET@bucket/?endpoint_override=localhost%3A9000")
    assert file.name == "s3://bucket/a folder/#1.jpg"


def test_a_folder_at_an_address_is_listed_and_read(tmp_path):
    pytest.importorskip("pyarrow")
    for name in ("b 1.jpg", "a/2.png", "a/.hidden/3.jpg", "__MACOSX/4.jpg", "a/.5.jpg"):
        write_photo(tmp_path / "a#b" / name)
    files = list_address(f"file://{tmp_path}/a#b")
    assert [file.name for file in files] == [f"file://{tmp_path}/a#b/{name}" for name in ("a/2.png", "b 1.jpg")]
    with files[0].open() as stream:
        assert stream.read() == (tmp_path / "a#b/a/2.png").read_bytes()
    (one,) = list_address(f"file://{tmp_path}/a#b/b 1.jpg")
    assert one.path == files[1].path


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("file://" + "/nowhere/at/all", "there is no such file or folder"),
        ("nothing://x/y", "cannot be read: Unrecognized filesystem type"),
    ],
)
def test_an_address_that_cannot_be_read_is_named(address, said):
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=rf"^{address}:? {said}") as error:
        list_address(address)
    assert "\n" not in str(error.value)
