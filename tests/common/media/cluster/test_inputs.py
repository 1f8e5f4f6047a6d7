import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from apps.common.images import read_image
from apps.common.media.cluster.inputs import Part, digest_of, find_files, make_parts, read_part
from apps.common.media.cluster.shards import File
from tests.common.media.cluster.shard_files import write_shard
from tests.common.media_files import write_photo, write_video


def names(sources: list[object], out: Path) -> list[str]:
    return [file.name for file in find_files([str(one) for one in sources], apart_from=out)]


def test_sources_of_every_kind(tmp_path, monkeypatch):
    folder, out = tmp_path / "photos", tmp_path / "photos/out"
    for name in ("b/2.jpg", "a.png", "c.JPG", ".hidden.jpg", "out/drawn.jpg"):
        write_photo(folder / name)
    (folder / "notes.csv").write_text("")
    shard = write_shard(folder / "d.tar", {"1.jpg": b""})
    inside = [str(folder / name) for name in ("a.png", "b/2.jpg", "c.JPG", "d.tar")]
    assert names([folder], out) == inside
    assert names([folder / "*.tar", folder / "a.png", folder], out) == [inside[3], *inside[:3]]
    assert find_files([str(shard)], apart_from=out)[0].size == shard.stat().st_size
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text(f"photos/a.png\r\n\nphotos/not there.jpg\nfile://{folder}/c.JPG\n")
    assert names(["list.txt"], out) == ["photos/a.png", "photos/not there.jpg", f"file://{folder}/c.JPG"]


def test_wrong_sources_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n")
    write_video(tmp_path / "videos/1.avi")
    for sources, said in (
        ([], "^nothing to look at: give"),
        ([tmp_path / "empty"], "empty: no photos and no tar shards in it; give"),
        ([f"file://{tmp_path}/empty?secret=1"], "empty: no photos and no tar shards in it; give"),
        ([tmp_path / "empty.txt"], "no photos and no tar shards"),
        ([tmp_path / "none.jpg"], "there is no such file or folder; give"),
        ([tmp_path / "*.jpg"], "no photos and no tar shards"),
        ([tmp_path / "videos"], r"^--on ray is for photos: .*1\.avi is a video"),
    ):
        with pytest.raises(ValueError, match=said):
            names(sources, tmp_path / "out")


def test_parts_are_slices_of_whole_batches_and_single_shards():
    photos = [File(f"{i}.jpg") for i in range(375)]
    files = [*photos[:250], File("x.tar"), *photos[250:], File("1.jpg", "s3://bucket/")]
    parts = list(make_parts(files, num_files=len(files), batch_size=24))
    assert [len(part.files) for part in parts] == [120, 120, 10, 1, 120, 5, 1]
    assert [part.number for part in parts] == list(range(7))
    assert [file for part in parts for file in part.files] == files
    sizes = {n: len(next(make_parts(photos * 1000, num_files=n, batch_size=8)).files) for n in (1, 10**6, 10**9)}
    assert sizes == {1: 128, 10**6: 1000, 10**9: 10_000}
    assert len(next(make_parts(photos, num_files=375, batch_size=200)).files) == 200


def test_the_digest_is_of_names_order_and_sizes_of_shards():
    files = [File("a.jpg"), File("b.tar", size=3)]
    others = [files[::-1], files[:1], [File("c.jpg"), files[1]], [files[0], File("b.tar", size=4)]]
    assert len({digest_of(some) for some in (files, *others)}) == 5


def test_photos_of_a_part_come_in_order_and_what_cannot_be_read_has_its_problem(tmp_path):
    good = [write_photo(tmp_path / f"{i}.png", 10 * i) for i in range(20)]
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    (tmp_path / "folder.jpg").mkdir()
    wrong = [tmp_path / name for name in ("bad.jpg", "none.jpg", "folder.jpg")]
    paths = [*good[:3], *wrong, *good[3:]]
    with ThreadPoolExecutor(3) as pool:
        frames = list(read_part(Part(0, tuple(File(str(path)) for path in paths)), pool, ahead=4))
    assert [frame.name for frame in frames] == [str(path) for path in paths]
    bad = frames[3:6]
    assert [frame.image is None for frame in bad] == [True] * 3
    assert "bad.jpg is not an image" in bad[0].problem and "none.jpg does not exist" in bad[1].problem
    for path, frame in zip(wrong, bad, strict=True):  # in the words of predict.py alone
        with pytest.raises(ValueError, match=f"^{re.escape(frame.problem)}$"):
            read_image(path)
    levels = [int(np.asarray(frame.image)[0, 0, 0]) for frame in frames if frame.image is not None]
    assert levels == [10 * i for i in range(20)]


def test_a_damaged_shard_ends_with_its_problem(tmp_path):
    data = write_photo(tmp_path / "x.png", 77).read_bytes()
    shard = write_shard(tmp_path / "s.tar", {"k/1.png": data, "k/2.png": b"no photo", "k/3.png": data})
    shard.write_bytes(shard.read_bytes()[:2600])
    with ThreadPoolExecutor(1) as pool:
        frames = list(read_part(Part(0, (File(str(shard)),)), pool, ahead=4))
    assert [frame.name for frame in frames] == [f"{shard}/k/1.png", f"{shard}/k/2.png", str(shard)]
    assert [frame.image is None for frame in frames] == [False, True, True]
    assert "k/2.png is not an image" in frames[1].problem
    assert frames[2].problem.startswith(f"shard {shard}: it is damaged: ")


def test_a_shard_that_is_gone_is_an_error_not_a_photo(tmp_path):
    part = Part(0, (File(str(tmp_path / "gone.tar")),))
    with ThreadPoolExecutor(1) as pool, pytest.raises(OSError):
        list(read_part(part, pool, ahead=4))
    assert not os.listdir(tmp_path)
