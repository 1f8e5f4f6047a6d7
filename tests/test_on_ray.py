"""predict.py --on ray in all apps: what an actor computes is what predict.py computes, and parts are kept."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apps.common.cli import run_command
from apps.common.images import read_image
from apps.common.media.cluster import predictions
from apps.common.media.cluster.engine import Actor
from apps.common.media.cluster.inputs import Part
from apps.detection import predict as detection
from apps.faceattr import predict as faceattr
from apps.finegrained import predict as finegrained
from tests.common.media.cluster.shard_files import write_shard
from tests.common.mistakes import error_of

pyarrow_parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra cluster")
DEMOS = Path(__file__).parents[1] / "demos"
BOX = ("x0", "y0", "x1", "y1")


@pytest.fixture
def serial(monkeypatch) -> None:
    """One actor in this process in place of Ray's."""

    def in_this_process(compute: Any, parts: list[Part], start: Any) -> Iterator[Any]:
        actor = Actor(pickle.loads(pickle.dumps(start)), threads=2)
        for part in parts:
            yield pickle.loads(actor({"part": np.array([pickle.dumps(part)], dtype=object)})["done"][0])

    monkeypatch.setattr(predictions, "in_own_process", in_this_process)
    monkeypatch.setattr("apps.common.media.cluster.inputs.MIN_PHOTOS", 8)


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(out.glob("*.parquet")) for row in pyarrow_parquet.read_table(path).to_pylist()]


def plain(app: str, found: Any) -> dict[str, Any]:
    """A photo's columns, made from what a Predictor gives in Python."""
    if app == "detection":
        return {
            "objects": [{"name": o.name, "score": o.score, **dict(zip(BOX, o.box_xyxy_px, strict=True))} for o in found]
        }
    if app == "finegrained":
        guesses = [{"name": guess.name, "prob": guess.prob} for guess in found]
        return {"guesses": guesses, "score": found.score, "is_unknown": found.is_unknown}
    faces = []
    for face in found:
        attributes = [{"name": name, "prob": p, "present": name in face.present} for name, p in face.probs.items()]
        faces.append({**dict(zip(BOX, face.box_xyxy_px, strict=True)), "attributes": attributes})
    return {"faces": faces}


@pytest.mark.parametrize(
    ("app", "script", "column"),
    [("detection", detection, "objects"), ("finegrained", finegrained, "guesses"), ("faceattr", faceattr, "faces")],
)
def test_a_table_has_what_a_predictor_gives_to_the_last_bit(app, script, column, tmp_path, serial, shared):
    model = DEMOS / "models" / app
    paths = sorted((DEMOS / "examples" / app).glob("*.jpg")) + sorted((shared / "data/photos").glob("*.jpg"))
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    args = ["--on", "ray", "--checkpoint", str(model), "--out", str(tmp_path / "out"), "--runtime", "onnx"]
    run_command(script.predict, script.Config, [str(tmp_path / "list.txt"), *args])
    rows = rows_of(tmp_path / "out")
    images = [read_image(path) for path in paths]
    predictor = script.Predictor(model, runtime="onnx", threads=1)
    found = [*predictor.batch(images[:8]), *predictor.batch(images[8:])]
    for row, path, image, one in zip(rows, paths, images, found, strict=True):
        size = {"path": str(path), "height": image.shape[0], "width": image.shape[1], "problem": None}
        assert row == size | plain(app, one)
    assert sum(len(row[column]) for row in rows) > 6


def find(sources: list[object], out: Path, *flags: str) -> None:
    model = DEMOS / "models/detection"
    args = [*map(str, sources), "--on", "ray", "--out", str(out), "--checkpoint", str(model), "--runtime", "torch"]
    run_command(detection.predict, detection.Config, [*args, *flags])


def test_finished_parts_are_kept_and_problems_are_rows(tmp_path, serial, capsys):
    folder, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(DEMOS / "examples/detection", folder, ignore=shutil.ignore_patterns("*.py"))
    (folder / "4b.jpg").write_bytes(b"no photo")
    photo = (folder / "1.jpg").read_bytes()
    write_shard(folder / "s.tar", {"k.jpg": photo, "k.json": b"{}", "l.jpg": photo[:500]})
    find([folder], out)
    said = capsys.readouterr().out.splitlines()[-2:]
    assert said == ["9 photos, of which 2 could not be read (column problem)", f"all 2 parts are in {out}"]
    assert sorted(os.listdir(out)) == ["_parts.json", "_parts.lock", "part-0000000.parquet", "part-0000001.parquet"]
    rows = rows_of(out)
    names = [*(f"{i}.jpg" for i in (1, 2, 3, 4)), "4b.jpg", "5.jpg", "6.jpg", "s.tar/k.jpg", "s.tar/l.jpg"]
    assert [row["path"] for row in rows] == [str(folder / name) for name in names]
    assert [i for i, row in enumerate(rows) if row["problem"]] == [4, 8]
    assert rows[4]["objects"] is None and "4b.jpg is not an image" in rows[4]["problem"]
    assert [o["name"] for o in rows[7]["objects"]] == [o["name"] for o in rows[0]["objects"]] != []

    kept = (out / "part-0000000.parquet").stat().st_mtime_ns
    (out / "part-0000001.parquet").unlink()
    find([folder], out)
    assert "1 of 2 parts are in" in capsys.readouterr().out
    assert [row["path"] for row in rows_of(out)] == [row["path"] for row in rows] and (
        out / "part-0000000.parquet"
    ).stat().st_mtime_ns == kept

    def refused(*args: object) -> str:
        common = ["--on", "ray", "--out", str(out), "--runtime", "torch"]
        return error_of(capsys, detection.predict, detection.Config, *map(str, args), *common)

    model = DEMOS / "models/detection"
    assert "has parts with another conf: give what" in refused(folder, "--checkpoint", model, "--conf", 0.7)
    shutil.copytree(model, tmp_path / "other")
    about = tmp_path / "other/model.json"
    about.write_text(about.read_text() + "\n")
    assert "has parts with another model:" in refused(folder, "--checkpoint", about.parent)
    (folder / "6.jpg").unlink()
    assert "has parts with another input:" in refused(folder, "--checkpoint", model)
    assert "--address and --actors are for --on ray" in error_of(
        capsys, detection.predict, detection.Config, str(folder), "--actors", "2"
    )
    assert "--save-as is not for --on ray" in refused(folder, "--checkpoint", model, "--save-as", "coco")
    assert rows_of(out) == rows


def test_a_part_that_cannot_be_computed_is_missing_and_all_others_are_there(tmp_path, serial, capsys):
    shard = write_shard(tmp_path / "s.tar", {})
    (tmp_path / "list.txt").write_text(f"{DEMOS}/examples/detection/1.jpg\n{tmp_path}/gone.tar\n{shard}\n")
    said = error_of(
        capsys,
        detection.predict,
        detection.Config,
        *(str(tmp_path / "list.txt"), "--on", "ray", "--checkpoint", str(DEMOS / "models/detection")),
        *("--out", str(tmp_path / "out"), "--runtime", "torch"),
    )
    assert "1 of 3 parts are missing (No such file or directory" in said and "start again with the same flags" in said
    assert [path.name for path in sorted((tmp_path / "out").glob("*.parquet"))] == [
        "part-0000000.parquet",
        "part-0000002.parquet",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="no record locks")
def test_two_at_once_do_not_write_to_one_folder(tmp_path, serial, capsys):
    """The second, with another threshold, would have made its parts among those of the first."""
    out = tmp_path / "out"
    out.mkdir()
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", hold, str(out / "_parts.lock")], **pipes) as other:
        other.stdout.readline()
        with pytest.raises(SystemExit):
            find([DEMOS / "examples/detection"], out, "--conf", "0.7")
        other.communicate(b"\n")
    assert f"--out {out}: another process writes to it (" in capsys.readouterr().err
    assert os.listdir(out) == ["_parts.lock"]
    find([DEMOS / "examples/detection"], out)
    assert len(rows_of(out)) == 6


def test_the_table_opens_in_pandas_and_duckdb(tmp_path, serial):
    duckdb, pandas = pytest.importorskip("duckdb"), pytest.importorskip("pandas")
    out = tmp_path / "out"
    find([DEMOS / "examples/detection"], out)
    rows = rows_of(out)
    frame = pandas.read_parquet(out)
    assert [len(objects) for objects in frame["objects"]] == [len(row["objects"]) for row in rows]
    query = f"select path, o.name, o.score, o.x1 from (select path, unnest(objects) as o from '{out}/*.parquet')"
    flat = [(row["path"], o["name"], o["score"], o["x1"]) for row in rows for o in row["objects"]]
    assert duckdb.sql(query).fetchall() == flat != []
    metadata = pyarrow_parquet.read_schema(out / "part-0000000.parquet").metadata
    assert metadata[b"computed_by"].startswith(b"torch ")


def test_a_teachers_outputs_are_those_of_the_in_memory_path(tmp_path, serial, capsys, monkeypatch):
    """In parts by the first byte, from folders and shards; train.py then computes none; what is stopped goes on."""
    from apps.faceattr.loss.teacher_outputs import KeptOutputs, cached_outputs
    from apps.faceattr.model.tagger import Tagger

    model, cpu = DEMOS / "models/faceattr", torch.device("cpu")
    photos = sorted((DEMOS / "examples/faceattr").glob("*.jpg"))
    write_shard(tmp_path / "faces/s.tar", {f"{i}.jpg": path.read_bytes() for i, path in enumerate(photos[:4])})
    for path in photos[4:]:
        shutil.copy(path, tmp_path / "faces")
    (tmp_path / "faces/bad.jpg").write_bytes(b"no photo")
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "alone"))
    teacher = Tagger.load(model, device=cpu)
    expected = cached_outputs(teacher, model, photos, batch_size=6, num_workers=0)

    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "cache"))
    args = [
        "--checkpoint",
        str(model),
        "--on",
        "ray",
        "--out",
        str(tmp_path / "out"),
        "--save-as",
        "outputs",
        "--whole",
    ]
    for _ in range(2):
        run_command(faceattr.predict, faceattr.Config, [str(tmp_path / "faces"), *args])
        assert "the teacher's outputs for 6 photos are in" in capsys.readouterr().out
        (tmp_path / "out/part-0000000.parquet").unlink()
    kept = KeptOutputs(teacher, model)
    assert all(len(file.stem) == 2 for file in kept.folder.iterdir())
    found = cached_outputs(teacher, model, photos, batch_size=6, num_workers=0)
    assert "for 6 photos: 0 computed" in capsys.readouterr().out
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)  # batches of other sizes, rounded to 16 bits
    assert "needs --on ray and --whole" in error_of(
        capsys, faceattr.predict, faceattr.Config, "x.jpg", *args[:2], "--save-as", "outputs"
    )


def workers_of(raylet: int) -> list[int]:
    """Ray's actors on a node: processes whose parent is its raylet."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == raylet and b"MapWorker" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            pass
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds Ray's processes in /proc")
def test_a_killed_worker_and_a_lost_node_cost_no_photo(tmp_path, monkeypatch):
    """On three nodes on this machine; when the first part is there, a worker is killed, and another node removed."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    photos = sorted((DEMOS / "examples/detection").glob("*.jpg"))
    for i in range(12):
        members = {f"{k}.jpg": photos[(i + k) % 6].read_bytes() for k in range(40)}
        write_shard(tmp_path / f"shards/{i:02d}.tar", members)
    out = tmp_path / "out"
    nodes, store = [], {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **store})
    done, write = [], predictions.write_part

    def write_and_kill(out: Path, number: int, data: bytes) -> None:
        write(out, number, data)
        done.append(number)
        if len(done) == 1:
            raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
            (victim, *_) = workers_of(raylets[0])
            os.kill(victim, signal.SIGKILL)
            cluster.remove_node(nodes[1], allow_graceful=False)

    monkeypatch.setattr(predictions, "write_part", write_and_kill)
    try:
        nodes += [cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20) for _ in range(2)]
        find([tmp_path / "shards"], out, "--address", cluster.address, "--actors", "3")
    finally:
        cluster.shutdown()
    assert sorted(done) == list(range(12))
    rows = rows_of(out)
    assert [row["path"] for row in rows] == [
        f"{tmp_path}/shards/{i:02d}.tar/{k}.jpg" for i in range(12) for k in range(40)
    ]
    found = detection.Predictor(DEMOS / "models/detection").batch(photos)  # of another batch: not to the last bit
    for i, row in enumerate(rows):
        one = found[(i // 40 + i % 40) % 6]
        assert [o["name"] for o in row["objects"]] == [o.name for o in one]
        assert [o["score"] for o in row["objects"]] == pytest.approx([o.score for o in one], rel=1e-4)
