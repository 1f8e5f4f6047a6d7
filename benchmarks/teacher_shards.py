"""What it takes to label photos in tar shards by a teacher and to read them as a student does: time and memory.

    python benchmarks/teacher_shards.py --photos 5000 20000

The faces are the embedded set's, each many times with other noise, so that no two files are equal. Memory is what the
process holds beyond the mapped files (RssAnon) before and after each phase; each number of photos has a process of its
own. At last a tenth of the outputs are compared with those of photos that were decoded into memory.
"""

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from apps.common.cli import run_command
from apps.common.images import read_image, stack_images
from apps.common.training.distributed import Processes
from apps.common.training.sampling import StepSampler
from apps.faceattr import train as script
from apps.faceattr.data.batches import TrainingSet, make_changes, to_square
from apps.faceattr.data.shards import ShardSet
from apps.faceattr.loss.teacher_outputs import cached_outputs
from apps.faceattr.model.tagger import Tagger
from apps.faceattr.sample import make_sample

A_SHARD = 1000  # photos


def write_shards(folder: Path, count: int) -> list[Path]:
    """Shards of so many faces, JPEG, no two of the same bytes."""
    faces = [read_image(path) for path in sorted((make_sample() / "unlabelled").rglob("*"))]
    rng = np.random.default_rng(count)
    shards = [folder / f"{first // A_SHARD:03d}.tar" for first in range(0, count, A_SHARD)]
    for number, shard in enumerate(shards):
        with tarfile.open(shard, "w") as file:
            for i in range(number * A_SHARD, min(count, (number + 1) * A_SHARD)):
                face = faces[i % len(faces)]
                noisy = np.clip(face + rng.normal(0, 6, face.shape), 0, 255).astype(np.uint8)
                data = cv2.imencode(".jpg", noisy[..., ::-1])[1].tobytes()
                member = tarfile.TarInfo(f"{i:08d}.jpg")
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    return shards


def held_mb() -> float:
    """Memory of this process that is no mapped file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def measure(folder: Path, teacher: Path, count: int) -> None:
    """Print a line for each phase."""
    shards = write_shards(folder, count)
    tagger = Tagger.load(teacher, device=torch.device("cpu"))
    tagger.logits(torch.zeros(64, 3, tagger.resolution, tagger.resolution, dtype=torch.uint8))  # what torch keeps
    make_changes("none")  # imports the augmentation library
    began = held_mb()

    def phase(name: str, start: float) -> None:
        spent = time.perf_counter() - start
        print(f"{count:>7,} photos, {name:<9}: {spent:6.1f} s, {count / spent:7,.0f} photos a second, "
              f"{held_mb() - began:+6.1f} MB held", flush=True)  # fmt: skip

    start = time.perf_counter()
    photos = ShardSet(shards, Processes())
    phase("index", start)
    start = time.perf_counter()
    logits = cached_outputs(tagger, teacher, [], photos, batch_size=64, num_workers=0)
    phase("label", start)
    start = time.perf_counter()
    dataset = TrainingSet(
        [], np.zeros((0, logits.shape[1]), np.int8), photos, resolution=64, augment="none", taught=logits
    )
    sampler = StepSampler(count, batch_size=50, num_steps=count // 50, seed=0, shards=dataset.shard_numbers)
    seen = np.zeros(count, bool)
    for batch in sampler:
        for key in batch:
            dataset[key]
            seen[key.item] = True
    phase("an epoch", start)
    items = list(range(0, count, 10))
    held = [to_square(photos.read(i), tagger.resolution) for i in items]
    direct = torch.cat([tagger.logits(stack_images(held[i : i + 64])) for i in range(0, len(held), 64)])
    expected = direct.to(torch.float16).numpy()
    equal = (logits[items] == expected).mean()
    largest = np.abs(logits[items].astype(float) - direct.double().numpy()).max()
    print(f"{count:>7,} photos: every one seen: {seen.all()}; outputs of {len(items):,} decoded into memory: "
          f"{equal:.2%} the same float16, largest difference {largest:.1e}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, nargs="+", default=[5000, 20_000])
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(Path(args.one[0]), Path(args.one[1]), int(args.one[2]))
        return
    with tempfile.TemporaryDirectory() as place:
        flags = ["--out", f"{place}/teacher", "--backbone", "a025", "--steps", "20", "--device", "cpu"]
        run_command(script.train_teacher, script.teacher_script.Config, flags)
        for count in args.photos:
            folder = Path(place) / str(count)
            folder.mkdir()
            command = [sys.executable, __file__, "--one", str(folder), f"{place}/teacher", str(count)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
