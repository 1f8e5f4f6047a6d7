"""Measure `predict.py --on ray` on this machine (Linux, extra `cluster`): its rate, what a loss costs, memory, stages.

    python benchmarks/cluster.py rate --photos PATH            predict.py and --on ray in turns, on a folder of photos
    python benchmarks/cluster.py loss --photos PATH            three nodes; a worker is killed and another node removed
    python benchmarks/cluster.py memory --photos PATH          30,000 rows of repeated photos: memory in time
    python benchmarks/cluster.py stages --photos PATH          photos a second of each stage on one core

PATH holds JPEGs; 3,000 are enough. Rates are without the start: from the first result (of Ray: the first part) to the
last. `loss` and `memory` use tar shards of these photos. docs/cluster.md has what it printed.
"""

import argparse
import glob
import io
import os
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet

ROOT = Path(__file__).resolve().parent.parent
PREDICT = [sys.executable, str(ROOT / "apps/detection/predict.py")]


def command(args: argparse.Namespace, *sources: object, out: Path) -> list[str]:
    checkpoint = args.checkpoint or ROOT / "demos/models/detection"
    flags = ["--checkpoint", checkpoint, "--runtime", args.runtime, "--out", out]
    return [*PREDICT, *map(str, (*sources, *flags))]


def rate_here(args: argparse.Namespace, folder: Path) -> float:
    """Photos a second between predict.py's first and last line about a photo; it draws nothing."""
    done = subprocess.Popen([*command(args, args.photos, out=folder / "here"), "--save"], stdout=subprocess.PIPE)
    assert done.stdout is not None
    times = [time.perf_counter() for line in done.stdout if b".jpg: " in line]
    done.wait()
    return (len(times) - 1) / (times[-1] - times[0])


def rate_on_ray(args: argparse.Namespace, folder: Path) -> float:
    """Photos a second between the first part and the last."""
    out = folder / "ray"
    subprocess.run([*command(args, args.photos, out=out), "--on", "ray"], check=True, stdout=subprocess.DEVNULL)
    parts = sorted(
        (path.stat().st_mtime, pyarrow.parquet.read_metadata(path).num_rows) for path in out.glob("*.parquet")
    )
    return sum(rows for _, rows in parts[1:]) / (parts[-1][0] - parts[0][0])


def rate(args: argparse.Namespace) -> None:
    rates: dict[str, list[float]] = {"predict.py": [], "--on ray": []}
    for _ in range(args.rounds):
        for name, measure in zip(rates, (rate_here, rate_on_ray), strict=True):
            with tempfile.TemporaryDirectory() as folder:
                rates[name].append(measure(args, Path(folder)))
            print(f"{name}: {rates[name][-1]:.0f} photos a second", flush=True)
    best, ray = max(rates["predict.py"]), statistics.median(rates["--on ray"])
    print(f"Ray's median, {ray:.0f}, is {ray / best:.2f} times predict.py's best, {best:.0f}")


def write_shards(args: argparse.Namespace, folder: Path) -> list[str]:
    """Shards of repeated photos; the names that the table must have."""
    photos = [path.read_bytes() for path in sorted(Path(args.photos).rglob("*.jpg"))[:1000]]
    names = []
    for i in range(args.shards):
        with tarfile.open(folder / f"{i:05d}.tar", "w") as shard:
            for k in range(args.per_shard):
                data = photos[(i * args.per_shard + k) % len(photos)]
                about = tarfile.TarInfo(f"{k:05d}.jpg")
                about.size = len(data)
                shard.addfile(about, io.BytesIO(data))
                names.append(f"{folder}/{i:05d}.tar/{k:05d}.jpg")
    return names


def check_rows(out: Path, names: Sequence[str]) -> None:
    tables = [pyarrow.parquet.read_table(path) for path in sorted(out.glob("*.parquet"))]
    found = [name for table in tables for name in table["path"].to_pylist()]
    once = len(set(found)) == len(found)
    print(f"{len(found):,} rows; each of {len(names):,} photos exactly once: {once and set(found) == set(names)}")


def workers() -> dict[int, int]:
    """Ray's actors on this machine, each with its node's process."""
    found = {}
    for path in glob.glob("/proc/[0-9]*"):
        try:
            if b"MapWorker" in Path(path, "cmdline").read_bytes():
                found[int(path[6:])] = int(Path(path, "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            pass
    return found


def loss(args: argparse.Namespace) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name, "shards"), Path(name, "out")
        folder.mkdir()
        names = write_shards(args, folder)
        store = 100 * 2**20
        head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": store}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        nodes = [cluster.add_node(num_cpus=1, object_store_memory=store) for _ in range(2)]
        ray = ["--on", "ray", "--address", cluster.address, "--actors", "3"]
        job = subprocess.Popen([*command(args, folder, out=out), *ray])
        while len(list(out.glob("*.parquet"))) < args.shards // 4 and job.poll() is None:
            time.sleep(0.1)
        other = nodes[1].all_processes["raylet"][0].process.pid
        victim = next(worker for worker, raylet in workers().items() if raylet != other)
        os.kill(victim, signal.SIGKILL)
        cluster.remove_node(nodes[1], allow_graceful=False)
        print(f"killed worker {victim} and removed a node, with {len(list(out.glob('*.parquet')))} parts finished")
        job.wait()
        cluster.shutdown()
        check_rows(out, names)


def memory_of(pids: Sequence[int]) -> float:
    """Megabytes that processes have for themselves."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
        except OSError:
            pass
    return total / 1024


def memory(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name, "shards"), Path(name, "out")
        folder.mkdir()
        names = write_shards(args, folder)
        job = subprocess.Popen([*command(args, folder, out=out), "--on", "ray"], stdout=subprocess.DEVNULL)
        said = 0
        while job.poll() is None:
            time.sleep(0.2)
            done = len(list(out.glob("*.parquet")))
            if done >= said + max(1, args.shards // 10):
                said = done
                children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
                mine, actors = memory_of([job.pid, *map(int, children)]), memory_of(list(workers()))
                print(
                    f"after {done * args.per_shard:6,} rows: {mine:5.0f} MB started, {actors:5.0f} MB actors",
                    flush=True,
                )
        check_rows(out, names)


def per_core(call: Callable[[int], object], number: int = 1, *, seconds: float = 2.0) -> float:
    """Calls a second of a core's time, whatever else runs, of a function that is given 0 to `number` - 1."""
    for i in range(3):
        call(i % number)
    done, begun = 0, time.process_time()
    while (now := time.process_time()) - begun < seconds:
        call(done % number)
        done += 1
    return done / (now - begun)


def stages(args: argparse.Namespace) -> None:
    import contenders
    from machine import set_threads

    from apps.common.images import decode_image
    from apps.common.media.cluster.table import encode
    from apps.detection.predict import Predictor
    from apps.detection.results import TABLE

    def show(stage: str, rate: float) -> None:
        print(f"{stage:30} {rate:8.0f}", flush=True)

    set_threads(1)
    paths = sorted(Path(args.photos).rglob("*.jpg"))[:256]
    files = [path.read_bytes() for path in paths]
    images, num = [decode_image(data, "") for data in files], len(files)
    print(f"{num} photos of {sum(map(len, files)) / num / 1000:.0f} kB; photos a second of one core:")
    show("read, from the system's cache", per_core(lambda i: paths[i].read_bytes(), num))
    show("decode", per_core(lambda i: decode_image(files[i], ""), num))
    settings = contenders.Settings(Path(tempfile.gettempdir()), 1, None, "pyramid", False)
    ours = {
        (width, way): contenders.ours("detection", width, way, settings)
        for width in ("a025", "a050", "a075", "a100")
        for way in ("torch", "onnx", "openvino")
    }
    prepare = ours["a025", "onnx"].before
    square = prepare(images[0])
    show("resize to 300", per_core(lambda i: prepare(images[i]), num))
    for (width, way), one in ours.items():
        show(f"network {width} {way}", per_core(lambda i, one=one: one.network(square)))  # type: ignore[misc]
    found = Predictor(ROOT / "demos/models/detection", runtime="torch").batch(images)
    rows = [
        {"path": str(path), "width": 1, "height": 1, **TABLE.row(one)} for path, one in zip(paths, found, strict=True)
    ]

    def table(_: int = 0) -> bytes:
        return encode(rows, TABLE.fields(), computed_by="")

    show("rows to Parquet", num * per_core(table))
    print(f"a row has {len(table()) / num:.0f} bytes, of {statistics.mean(map(len, found)):.1f} objects")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rate", "loss", "memory", "stages"))
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, help="default the small detector of the demos")
    parser.add_argument("--runtime", default="onnx")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=30)
    parser.add_argument("--per-shard", type=int, default=1000)
    args = parser.parse_args()
    {"rate": rate, "loss": loss, "memory": memory, "stages": stages}[args.what](args)
