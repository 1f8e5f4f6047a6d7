"""Compare the formats of export.py: size, difference from torch, the app's metric and milliseconds on one core.

    python -m benchmarks.formats RUN ... --out results                          exports, in 32-bit floats and in 8 bits
    python -m benchmarks.formats RUN ... --out results --formats executorch     in an environment that has executorch
    python -m benchmarks.formats --out results --time                           times all files, in turns, on one core
    python -m benchmarks.formats --out results --table docs/formats.md          writes the table between its two marks

RUN is a folder of train.py, measured on photos of the val split of its data, or a model folder (a bundled one, say),
measured on the sample set. Exports and results.json are kept in --out: what is there is not made again, so a
measurement that was stopped goes on. Time on a quiet machine; the others may run while it works.
"""

import argparse
import contextlib
import importlib
import io
import os
import re
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from apps.common.checkpoint import CONFIG, DESCRIPTION, load_object, model_folder, save_json
from apps.common.deploy.export import LACKS, default_out
from apps.common.deploy.sessions import load_session
from backbone.runtimes import processor

METRICS = {"detection": "AP", "finegrained": "top-1", "faceattr": "mean AP"}
FORMATS = ("onnx", "openvino", "tflite", "ncnn", "executorch")
MARKS = "<!-- benchmarks/formats.py: begin -->\n", "<!-- benchmarks/formats.py: end -->\n"
HEAD = (
    "| model | metric | format | MB | differs by | metric | ms | 8 bits: MB | metric | ms |\n"
    "|---|---|---|---|---|---|---|---|---|---|\n"
)
ROUNDS, IMAGES = 15, 10  # of each file in turn, and images in each round
Record = dict[str, Any]


class Results:
    """The records of results.json, by run, format and bits; each change is written, to what others wrote meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "results.json"
        self.records = self._read()

    def _read(self) -> dict[str, Record]:
        return load_object(self.file) if self.file.is_file() else {}

    def keep(self, key: str, record: Record) -> None:
        self.records = {**self._read(), key: record}
        save_json(self.file, dict(sorted(self.records.items())))


def export_one(run: Path, format: str, int8: bool, out: Path, num_photos: int) -> Record:
    """Write one file by the app's export.py, and read what its checks print."""
    about = load_object(model_folder(run) / DESCRIPTION)
    app, data = about["app"], "sample"
    flags: dict[str, Any] = {"max_drop": 1.0} if int8 else {}
    if (run / CONFIG).is_file():
        config = load_object(run / CONFIG)["config"]
        data = config["data"]
        flags |= {"bad_data": config["bad_data"], "group_by": config["group_by"]}
    flags["data"] = (tuple(data) if isinstance(data, list) else (data,)) if app == "faceattr" else data
    door = importlib.import_module(f"apps.{app}.export")
    file = default_out(out / "files" / "best", run.name, format=format, int8=int8)  # type: ignore[arg-type]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        door.export(door.Config(checkpoint=run, format=format, int8=int8, out=file, num_photos=num_photos, **flags))
    text = said.getvalue()
    (differs,) = re.findall(r"outputs differ from torch's by (\S+) at most", text)
    ((photos, before, after),) = re.findall(r" on ([\d,]+) photos: torch (\S+), exported (\S+)", text)
    size = sum(path.stat().st_size for path in [file, *file.rglob("*")] if path.is_file())
    return {
        **{"run": run.name, "app": app, "backbone": about["backbone"], "resolution": about["resolution"]},
        **{"format": format, "int8": int8, "file": str(file.relative_to(out)), "mb": size / 1e6},
        **{"difference": float(differs), "photos": int(photos.replace(",", ""))},
        **{"reference": float(before), "metric": float(after)},
    }


def export_all(runs: Iterable[Path], results: Results, formats: Iterable[str], num_photos: int) -> None:
    """Write what is not there yet; a file that is refused is said, and left out."""
    for run in runs:
        for format in formats:
            for int8 in (False, True):
                key = f"{run.name} {format}" + " int8" * int8
                if key in results.records or (int8 and "--int8" in LACKS.get(format, ())):
                    continue
                try:
                    results.keep(key, export_one(run, format, int8, results.file.parent, num_photos))
                except ValueError as error:
                    print(f"{key}: {error}", flush=True)
                else:
                    print(f"{key}: {results.records[key]}", flush=True)


def time_all(results: Results) -> None:
    """Milliseconds of each file for one image on one core: the median of rounds, in each of which all take part."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sessions, times = {}, {}
    for key, record in [*results.records.items()]:
        try:
            sessions[key] = load_session(results.file.parent / record["file"], record["format"], threads=1)
        except ImportError:
            print(f"{key}: not timed, its runtime is not installed here")
    for _ in range(ROUNDS):
        for key, session in sessions.items():
            side = results.records[key]["resolution"]
            image = torch.randint(0, 256, (1, side, side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
            session(image)
            start = time.perf_counter()
            for _ in range(IMAGES):
                session(image)
            times.setdefault(key, []).append((time.perf_counter() - start) / IMAGES)
    for key, some in times.items():
        results.keep(key, {**results.records[key], "ms": 1000 * statistics.median(some), "machine": processor()})
        print(f"{key}: {results.records[key]['ms']:.2f} ms")


def table(records: Iterable[Record]) -> str:
    """Markdown: a row for each model and format."""
    rows: dict[tuple[str, ...], dict[bool, Record]] = {}
    for one in sorted(
        records, key=lambda r: (list(METRICS).index(r["app"]), r["backbone"], FORMATS.index(r["format"]))
    ):
        model = f"{one['app']}, {one['backbone']} at {one['resolution']} ({one['run']})"
        metric = f"{METRICS[one['app']]}, {one['photos']:,} photos: {one['reference']:.4f}"
        rows.setdefault((model, metric, one["format"]), {})[one["int8"]] = one
    lines = []
    for names, pair in rows.items():
        cells = [*names]
        for int8 in (False, True):
            one = pair.get(int8)
            differs = [] if int8 else [f"{one['difference']:.0e}" if one else ""]
            values = (f"{one['mb']:.2f}", *differs, f"{one['metric']:.4f}") if one else ("", *differs, "")
            cells += [*values, f"{one['ms']:.2f}" if one and "ms" in one else ""]
        lines.append(f"| {' | '.join(cells)} |\n")
    return HEAD + "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="folders of train.py, or model folders")
    parser.add_argument("--out", type=Path, required=True, help="folder of results.json and the exports")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS[:4])
    parser.add_argument("--num-photos", type=int, default=300, help="of val for the metric, of train for 8 bits")
    parser.add_argument("--time", action="store_true", help="time the files, too")
    parser.add_argument("--table", type=Path, help="Markdown file to write the table into, between its two marks")
    given = parser.parse_args()
    results = Results(given.out)
    export_all(given.runs, results, given.formats, given.num_photos)
    if given.time:
        time_all(results)
    print(table(results.records.values()))
    if given.table:
        before, _, rest = given.table.read_text(encoding="utf-8").partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        text = before + MARKS[0] + "\n" + table(results.records.values()) + "\n" + MARKS[1] + after
        given.table.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
