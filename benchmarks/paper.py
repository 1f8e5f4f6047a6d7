"""Train the paper's tables, and variants that its readers ask about, on a folder of classified photos.

    python benchmarks/paper.py --out runs/paper                          the embedded moths, 3 seeds: hours
    python benchmarks/paper.py --out runs/g --data GROCERIES --split test --augment light
    python benchmarks/paper.py --out runs/quick --tables 6 --seeds 1 --side 56 --steps 50
    python benchmarks/paper.py --out runs/paper --report                 the tables of the runs that are finished

All networks start from random weights and are trained alike: same photos, steps, learning rate and seeds. --side pixels
stand for the paper's 224, and 192, 160 and 128 are scaled likewise. Top-1 is that of the moving average of the weights
after the last step, on all photos of --split, which is measured once. Each run is kept in OUT/runs as it ends: the same
command goes on where it was stopped. With --jobs, several are trained at once. OUT/paper.md has the tables, with the
paper's figures of ImageNet beside ours, OUT/paper.png shows the 16 networks of Figures 4 and 5, and OUT/distill.png the
widths with and without a teacher.

Mult-adds and parameters under "here" are those of our networks, at our resolutions and with our classes; those under
"paper" belong to 1000 classes and the paper's resolutions: as printed, and as counted here (weights without norms).
"""

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import torch
from paper_report import Done, draw, draw_taught, report
from paper_runs import PHOTOS, TEACHER, Setting, Study, seconds_a_step, train_one
from paper_tables import TABLES, Asked, Row, rows_of

from apps.common.checkpoint import load_object, save_json
from apps.common.choices import OptimizerName
from apps.finegrained.choices import Augment
from apps.finegrained.sample import SAMPLE_RESOLUTION, make_sample
from backbone.files import written_whole

FIRST_SEED_ONLY = "figures-4-5"


def parse_args(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--data", default="sample", help="folder of photos by split and class (default: the moths)")
    parser.add_argument("--split", default="val", help="of the photos that top-1 is measured on (default: val)")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES), help="(default: all)")
    parser.add_argument("--width", default="a100", help="of Table 4 and of the questions (default: a100, the paper's)")
    parser.add_argument("--side", type=int, default=SAMPLE_RESOLUTION, help="pixels for the paper's 224 (default: 128)")
    parser.add_argument("--steps", type=int, default=600, help="of each run (default: 600)")
    parser.add_argument("--batch-size", type=int, default=32, help="(default: 32)")
    parser.add_argument("--optimizer", default="sgd", choices=get_args(OptimizerName), help="(default: sgd)")
    parser.add_argument("--lr", type=float, default=0.2, help="peak learning rate (default: 0.2)")
    parser.add_argument("--augment", default="mirror", choices=get_args(Augment), help="(default: mirror)")
    parser.add_argument("--strong-decay", type=float, default=2e-3, help="of the question (default: 2e-3; AdamW: 1)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each network: seeds 0, 1, ... (default: 3)")
    parser.add_argument(
        "--pair-seeds", type=int, default=1, help="those of the 16 pairs in no other table (default: 1)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (default: 1)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of all runs (default: torch's)")
    parser.add_argument("--report", action="store_true", help="train nothing")
    return parser.parse_args(args)


def study_of(args: argparse.Namespace) -> Study:
    """What the flags say of all runs; kept in OUT/study.json, which a later command must agree with.

    Raises:
        ValueError: the flags are wrong, or the folder has another study.
    """
    for name in ("steps", "batch_size", "seeds", "pair_seeds", "jobs", "threads"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be 1 or more, got {getattr(args, name)}")
    if not 0 < args.lr < math.inf or not 0 <= args.strong_decay < math.inf:
        raise ValueError(
            f"--lr must be above 0 and --strong-decay 0 or more, got {args.lr:g} and {args.strong_decay:g}"
        )
    if args.side < 56:
        raise ValueError(f"--side must be 56 or more, so that the smallest of four has 32 pixels, got {args.side}")
    if args.report and not (args.out / "study.json").exists():
        raise ValueError(f"{args.out} has no study to report")
    data = str(make_sample()) if args.data == "sample" else args.data
    common = {
        name: getattr(args, name) for name in ("split", "side", "steps", "batch_size", "optimizer", "lr", "augment")
    }
    study = Study(data=data, **common)
    path = args.out / "study.json"
    if path.exists():
        there = load_object(path)
        for name, value in dataclasses.asdict(study).items():
            if there.get(name) != value:
                raise ValueError(
                    f"{args.out} has a study with {name} {there.get(name)}, not {value}: take another --out"
                )
    if not path.exists() or not (args.out / PHOTOS).exists():
        study.shrink_photos(args.out / PHOTOS)
    if not path.exists():  # only now: photos that cannot be read leave no study behind
        save_json(path, dataclasses.asdict(study))
    return study


def asked(args: argparse.Namespace) -> Asked:
    """What the rows of the tables depend on."""
    return Asked(args.width, args.augment, args.strong_decay)


def wanted(args: argparse.Namespace) -> list[tuple[Setting, int]]:
    """The settings and seeds of the tables, each once; the first seed of all comes first."""
    pairs = [
        (row.setting, seed)
        for table in args.tables
        for row in rows_of(table, asked(args))
        for seed in range(args.pair_seeds if table == FIRST_SEED_ONLY else args.seeds)
    ]
    return sorted(dict.fromkeys(pairs), key=lambda pair: pair[1])


def path_of(out: Path, setting: Setting, seed: int) -> Path:
    """Of a finished run's record."""
    return out / "runs" / f"{setting.name}-seed-{seed}.json"


def train_all(args: argparse.Namespace, study: Study) -> None:
    """Train what is not finished; networks that others learn from come first."""
    left = [(setting, seed) for setting, seed in wanted(args) if not path_of(args.out, setting, seed).exists()]
    needed = [(TEACHER, seed) for setting, seed in left if setting.taught]
    untaught = [(TEACHER, seed) for _, seed in needed if not path_of(args.out, TEACHER, seed).exists()]
    waves = [list(dict.fromkeys([*untaught, *(one for one in left if not one[0].taught)]))]
    waves.append([one for one in left if one[0].taught])
    threads = max(1, args.threads // args.jobs)
    settings = dict.fromkeys(setting for wave in waves for setting, _ in wave)
    seconds = {
        setting: 5 + study.steps * seconds_a_step(setting, study, threads=threads, out=args.out) for setting in settings
    }
    total = sum(seconds[setting] for wave in waves for setting, _ in wave)
    number = sum(map(len, waves))
    print(f"{number} runs to train, about {total / 60 / args.jobs:.0f} minutes, by a step of each", flush=True)
    done, start = 0, time.perf_counter()
    for setting, seed, found in (one for wave in waves for one in run_wave(wave, args, study, threads)):
        save_json(path_of(args.out, setting, seed), found)
        done += 1
        told = f"top-1 {found['top1']:.3f}, {found['cpu_seconds']:.0f} s of CPU"
        print(
            f"{done}/{number} {setting.name}, seed {seed}: {told}; {time.perf_counter() - start:.0f} s in all",
            flush=True,
        )


def run_wave(wave: list, args: argparse.Namespace, study: Study, threads: int) -> Iterable[tuple[Setting, int, dict]]:
    """The runs of a wave as they end, in this process or in `--jobs` others.

    Raises:
        ValueError: one failed; those that had begun are given first, the others are not begun.
    """
    how = {"study": study, "threads": threads, "out": args.out}
    if args.jobs == 1:
        for setting, seed in wave:
            yield setting, seed, train_one(setting, seed, **how)
        return
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        futures: dict[Future, tuple[Setting, int]] = {pool.submit(train_one, *one, **how): one for one in wave}
        failed: BaseException | None = None
        for future in as_completed(futures):
            if future.cancelled():
                continue
            if error := future.exception():
                failed = failed or error
                for other in futures:
                    other.cancel()
            else:
                yield *futures[future], future.result()
    if isinstance(failed, BrokenProcessPool):
        raise ValueError("a process was ended from outside, likely for want of memory: use fewer --jobs") from failed
    if failed:
        raise failed


def read_done(out: Path, rows: Iterable[Row]) -> Done:
    """The finished runs of each setting of some rows.

    Raises:
        ValueError: a record is damaged.
    """
    done: Done = {}
    for setting in dict.fromkeys(row.setting for row in rows):
        paths = sorted((out / "runs").glob(f"{setting.name}-seed-*.json"))
        done[setting] = [load_object(path) for path in paths]
        for path, run in zip(paths, done[setting], strict=True):
            if not {"top1", "loss", "num_photos", "mult_adds", "params", "cpu_seconds"} <= set(run):
                raise ValueError(f"{path} is not the record of a run: remove it, and the run is trained again")
    return done


def main(given: Sequence[str] | None = None) -> None:
    """Train and report; `given` are the flags, None for the command line's."""
    args = parse_args(given)
    try:
        study = study_of(args)
        if not args.report:
            train_all(args, study)
        tables = {table: rows_of(table, asked(args)) for table in args.tables}
        done = read_done(args.out, [row for rows in tables.values() for row in rows])
        text = report(tables, done, study)
    except (ValueError, OSError) as error:
        print(f"paper.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(text)
    with written_whole(args.out / "paper.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    if any(done[row.setting] for row in tables.get(FIRST_SEED_ONLY, [])):
        draw(args.out / "paper.png", tables[FIRST_SEED_ONLY], done, study)
    if any(done[row.setting] for row in tables.get("distill", [])):
        draw_taught(args.out / "distill.png", tables["distill"], done, study)


if __name__ == "__main__":
    main()
