"""Unlabelled photos in tar shards: the same photos, outputs and weights as of a folder, and an order by shard."""

import errno
import io
import os
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from apps.common.cli import parse, run_command
from apps.common.images import read_image
from apps.common.training import sampling
from apps.common.training.distributed import Processes
from apps.common.training.sampling import StepSampler, streamed_order
from apps.faceattr import train as script
from apps.faceattr.data import shards as module
from apps.faceattr.data.batches import make_eval_set
from apps.faceattr.data.shards import ShardSet, part_shards
from apps.faceattr.loss import teacher_outputs
from apps.faceattr.loss.teacher_outputs import cached_outputs
from apps.faceattr.model.tagger import Tagger
from tests.common.interrupted import same_weights, stop_after
from tests.common.mistakes import error_of
from tests.conftest import leave_out_reports
from tests.faceattr.conftest import draw_faces

SIZES = (7, 2, 11)  # photos of a shard
BASE = "--backbone a025 --weights none --resolution 32 --num-workers 0 --device cpu --batch-size 8".split()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Labelled faces, a teacher, and 20 photos in folder/ as well as in shards/, where other files lie among them."""
    root = tmp_path_factory.mktemp("shards")
    draw_faces(root / "data")
    rng = np.random.default_rng(7)
    (root / "shards").mkdir()
    for shard, size in enumerate(SIZES):
        with tarfile.open(root / f"shards/{shard}.tar", "w") as file:
            (root / f"folder/{shard}").mkdir(parents=True)
            for i in range(size):
                photo = root / f"folder/{shard}/{i:02d}.png"
                cv2.imwrite(str(photo), rng.integers(0, 255, (48, 48, 3), dtype=np.uint8))
                file.add(photo, f"faces/{'long' * 40 * (i == 1)}{i:02d}.png")
                add(file, f"faces/{i:02d}.json", b"{}")
    with pytest.MonkeyPatch.context() as patch:
        leave_out_reports(patch, "faceattr")
        flags = ["--data", str(root / "data"), "--out", str(root / "teacher"), "--steps", "2", *BASE]
        run_command(script.train_teacher, script.teacher_script.Config, flags)
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "cache"))


def add(file: tarfile.TarFile, name: str, data: bytes = b"", **facts) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in facts.items():
        setattr(member, key, value)
    file.addfile(member, io.BytesIO(data))


def files_of(place: Path) -> list[Path]:
    return sorted((place / "folder").rglob("*.png"))


def shards_of(place: Path) -> list[Path]:
    return part_shards([place / "shards"])[1]


def test_photos_are_read_at_their_places(place, monkeypatch):
    files = files_of(place)
    photos = ShardSet(shards_of(place), Processes(), known=[module.content_hash(files[3].read_bytes())])
    assert (len(photos), photos.num_known, photos.problems) == (19, 1, [])
    for i, path in enumerate(files[:3] + files[4:]):
        assert np.array_equal(photos.read(i), read_image(path))
        assert photos.name(i).name.endswith(path.name) or path.name == "01.png"  # of a long name, the beginning
    monkeypatch.setattr(module, "_read_index", None)  # the second start has an index
    assert len(ShardSet(shards_of(place), Processes())) == 20


def test_what_is_no_photo(place, tmp_path):
    whole = files_of(place)[0].read_bytes()
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        add(file, "../../good.png", whole)
        add(file, "half.png", whole[:200])
        add(file, "link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(file, "._hidden.png", b"x")
        add(file, "no\x1b[31m.png", b"text")
    photos = ShardSet([tmp_path / "a.tar"], Processes())
    assert len(photos) == 1 and np.array_equal(photos.read(0), read_image(files_of(place)[0]))
    half, link, text = photos.problems
    assert "a.tar/half.png is truncated" in half and link.endswith("a.tar/link.png is no plain file")
    assert "is not an image" in text and "\x1b" not in text
    data = (place / "shards/2.tar").read_bytes()
    end = data.index(b"faces/01.json")  # of a photo: what is cut there has whole members only
    for number, damaged in enumerate((b"x" * 2000, data[:5000], data[:end])):
        (tmp_path / f"{number}.tar").write_bytes(damaged)
        with pytest.raises(ValueError, match=f"shard .*{number}.tar is no whole tar file: it is damaged: "):
            ShardSet([tmp_path / f"{number}.tar"], Processes())
    with pytest.raises(ValueError, match=r"shard .*none.tar cannot be read"):
        ShardSet([tmp_path / "none.tar"], Processes())
    (tmp_path / "b.tar.gz").touch()
    with pytest.raises(ValueError, match=r"b.tar.gz is packed.*unpack it to .tar"):
        part_shards([tmp_path])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_order_goes_through_shards_and_each_process_has_its_own(monkeypatch, count):
    monkeypatch.setattr(sampling, "SHUFFLE", 20)
    shards = np.repeat(np.arange(-1, 12), [90, *[300] * 12])
    order = streamed_order(shards, np.random.default_rng(1), count)
    assert np.array_equal(np.sort(order), np.arange(len(shards)))
    seen: list[set[int]] = []
    for rank in range(count):
        mine = shards[order[rank::count]]
        assert 0 < (mine == -1).sum() < 90 // count * 2
        inside = mine[mine >= 0]
        first, last = ({int(s): i for i, s in rows} for rows in (list(enumerate(inside))[::-1], enumerate(inside)))
        assert all(last[s] - first[s] < 300 + 2 * 20 for s in first)  # a shard is read, and not again
        seen.append(set(first))
    assert sum(map(len, seen)) <= 12 + count - 1  # they share those at the borders alone
    sampler = StepSampler(len(shards), batch_size=6, num_steps=4, seed=3, shards=shards, processes=Processes(0, count))
    straight = list(sampler)
    resumed = StepSampler(
        len(shards), batch_size=6, num_steps=4, start_step=2, seed=3, shards=shards, processes=Processes(0, count)
    )
    assert list(resumed) == straight[2:]


def test_outputs_are_those_of_a_folder_and_what_was_stopped_goes_on(place, monkeypatch, capsys, tmp_path):
    tagger = Tagger.load(place / "teacher", device="cpu")
    how = {"batch_size": 4, "num_workers": 0}
    direct = teacher_outputs.predict_logits(
        tagger.logits,
        make_eval_set(files_of(place), resolution=tagger.resolution),
        files_of(place),
        name="direct",
        **how,
    )
    monkeypatch.setattr(teacher_outputs, "KEPT_AFTER", 5)
    predict, calls = teacher_outputs.predict_logits, []

    def stop(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict(*args, **options)

    monkeypatch.setattr(teacher_outputs, "predict_logits", stop)
    photos = ShardSet(shards_of(place), Processes())
    with pytest.raises(KeyboardInterrupt):
        cached_outputs(tagger, place / "teacher", [], photos, **how)
    done = sum(len(load_file(part)["photos"]) for part in (tmp_path / "cache").rglob("*.safetensors"))
    assert 0 < done < 20
    streamed = cached_outputs(tagger, place / "teacher", [], photos, **how)
    assert f"for 20 photos: {20 - done} computed" in capsys.readouterr().out
    assert np.array_equal(cached_outputs(tagger, place / "teacher", files_of(place), **how), streamed)
    assert "for 20 photos: 0 computed" in capsys.readouterr().out
    np.testing.assert_allclose(streamed, direct.numpy(), rtol=2e-3, atol=2e-3)


def flags_of(place: Path, out: Path, *more: str) -> list[str]:
    places = ["--data", str(place / "data"), "--teacher", str(place / "teacher"), "--out", str(out)]
    return [*BASE, *places, "--unlabelled", str(place / "shards"), "--steps", "4", "--eval-every", "4", *more]


def test_a_student_learns_from_shards_and_resumes_to_the_bit(place, tmp_path, monkeypatch, capsys):
    leave_out_reports(monkeypatch, "faceattr")
    cached = ["--teacher-outputs", "cached", "--checkpoint-every", "1"]
    script.train(parse(script.Config, flags_of(place, tmp_path / "straight", *cached)))
    said = capsys.readouterr().out
    assert "20 photos without labels in 3 tar shards" in said and "for 36 photos: 36 computed" in said
    config = parse(script.Config, flags_of(place, tmp_path / "stopped", *cached))
    stop_after(2, script, monkeypatch, lambda: script.train(config))
    script.train(script.Config(resume=tmp_path / "stopped", num_workers=1))
    assert same_weights(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve room")
def test_a_full_disk_is_named_before_anything_is_mapped(monkeypatch, tmp_path):
    def full(*args) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match=f"{tmp_path}/cache has no room for 16 bytes: No space left on device"):
        module.mapped((4,), np.dtype(np.int32))


def test_mistakes(place, tmp_path, capsys):
    with tarfile.open(tmp_path / "bad.tar", "w") as file:
        add(file, "text.png", b"text")
    flags = flags_of(place, tmp_path / "run", "--unlabelled", str(tmp_path / "bad.tar"))
    line = error_of(capsys, script.train, script.Config, *flags)
    assert "bad.tar/text.png is not an image" in line
    line = error_of(capsys, script.train, script.Config, *flags, "--bad-data", "skip")
    assert line.endswith("bad.tar: no photo in it can be learnt from")
    assert not (tmp_path / "run").exists()
