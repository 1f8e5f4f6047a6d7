"""What 8 bits cost: the metric of runs in float32 and as 8-bit files, on the same photos of val.

    python benchmarks/eight_bits.py RUN ... --formats onnx openvino tflite executorch --table eight_bits.md

RUN is a folder of train.py, with the data that it was trained on. Each file is written by the app's export.py and
measured by its eval.py with `--compare`, whose interval is of the paired difference: to the run in float32, or, where
the run is one of --qat, to the one that it was fine-tuned from. Rows that a table has already are kept, so that an
interrupted measurement goes on.
"""

import argparse
import contextlib
import importlib
import io
import tempfile
from pathlib import Path
from typing import Any

from apps.common.checkpoint import CONFIG, load_object
from apps.common.deploy.export import default_out

METRICS = {"detection": "AP", "finegrained": "top1", "faceattr": "mean_ap"}
HEAD = "| run | format | float32 | 8 bits | difference, 95 % interval | MB |\n|---|---|---|---|---|---|\n"


def measure(run: Path, format: str, out: Path, **flags: Any) -> str:
    """A row of the table: of one run as an 8-bit file of one format."""
    about = load_object(run / CONFIG)
    app, config = about["app"], about["config"]
    exact = Path(config["weights"]) if config.get("qat") else run
    data = tuple(config["data"]) if app == "faceattr" else config["data"]
    export, evaluate = (importlib.import_module(f"apps.{app}.{door}") for door in ("export", "eval"))
    where = default_out(out / "best", "model", format=format, int8=True)  # type: ignore[arg-type]
    common = {"data": data, "bad_data": config["bad_data"], "group_by": config["group_by"]}
    with contextlib.redirect_stdout(io.StringIO()):
        export.export(
            export.Config(checkpoint=run / "best", format=format, int8=True, max_drop=1.0, out=where, **common, **flags)
        )
        results = out / "eval"
        evaluate.evaluate(
            evaluate.Config(checkpoint=where, compare=exact, out=results, device="cpu", num_workers=0, **common)
        )
    figures, name = load_object(results / "metrics.json"), METRICS[app]
    off = figures["compare"]["difference"][name]
    size = sum(path.stat().st_size for path in [where, *where.rglob("*")] if path.is_file()) / 1e6
    return (
        f"| {run.name} | {format} | {figures[name] - off['value']:.4f} | {figures[name]:.4f} | {off['value']:+.4f}, "
        f"{off['low']:+.4f} to {off['high']:+.4f} | {size:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of train.py")
    parser.add_argument("--formats", nargs="+", default=["onnx", "openvino", "tflite"])
    parser.add_argument("--table", type=Path, help="Markdown file that rows are added to")
    given = parser.parse_args()
    table = given.table
    done = table.read_text(encoding="utf-8") if table and table.exists() else HEAD
    for run in given.runs:
        for format in given.formats:
            if f"| {run.name} | {format} |" in done:
                continue
            with tempfile.TemporaryDirectory() as folder:
                row = measure(run, format, Path(folder))
            print(row, flush=True)
            done += row + "\n"
            if table:
                table.write_text(done, encoding="utf-8")


if __name__ == "__main__":
    main()
