"""Measure the time to the first result: `--help` of every script, and the first prediction of a fresh process.

    python benchmarks/startup.py
    python benchmarks/startup.py --rounds 7 --runtimes torch openvino

Each figure is the median over fresh processes, which take turns, with the files in the system's cache. `--help` is
timed from outside, including start and end of the interpreter, and compared with a bare `import torch`. For the first
prediction, with the small models of the demos, a process reports when it has imported `apps.<app>.predict`, opened the
model and predicted for a photo. An earlier process has already written the export that a runtime uses.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from apps.common.deploy.sessions import MODULES

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("apps/*/*.py"), *ROOT.glob("demos/*.py")]
    if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
)
FIRST_RESULT = """
import json, sys, time
start = time.perf_counter()
app, runtime, photo = sys.argv[1:]
import importlib
Predictor = importlib.import_module(f"apps.{app}.predict").Predictor
imported = time.perf_counter()
predictor = Predictor(f"demos/models/{app}", runtime=runtime)
opened = time.perf_counter()
from apps.common.images import read_image
image = read_image(photo)
predictor(image)
first = time.perf_counter()
predictor(image)
second = time.perf_counter()
print(json.dumps([imported - start, opened - imported, first - opened, first - start, second - first]))
"""


def seconds(*command: str) -> float:
    """Seconds that a process of this Python takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def first_result(app: str, runtime: str) -> list[float]:
    """Seconds for the import, opening, the first answer, all of these together, and the second answer."""
    photo = next(iter(sorted((ROOT / "demos" / "examples" / app).glob("*.jpg"))))
    command = [sys.executable, "-c", FIRST_RESULT, app, runtime, str(photo)]
    found = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runtimes", nargs="+", default=["torch", *MODULES])
    args = parser.parse_args()

    commands = [("-c", "import torch"), *((str(script), "--help") for script in SCRIPTS)]
    cases = [(app, runtime) for app in ("detection", "finegrained", "faceattr") for runtime in args.runtimes]
    helps: dict[tuple, list[float]] = {command: [] for command in commands}
    firsts: dict[tuple, list[list[float]]] = {case: [] for case in cases}
    for case in cases:
        first_result(*case)  # export, and fill the file cache
    for _ in range(args.rounds):
        for command, times in helps.items():
            times.append(seconds(*command))
        for case, parts in firsts.items():
            parts.append(first_result(*case))
    print(f"{'seconds, median of ' + str(args.rounds):40s} {'median':>7s} {'most':>7s}")
    for command, times in helps.items():
        print(f"{' '.join(command):40s} {statistics.median(times):7.2f} {max(times):7.2f}")
    print(f"\n{'first result':40s} {'import':>7s} {'open':>7s} {'first':>7s} {'in all':>7s} {'second':>7s}")
    for (app, runtime), parts in firsts.items():
        medians = (statistics.median(part) for part in zip(*parts, strict=True))
        print(f"{app + ', ' + runtime:40s} " + " ".join(f"{value:7.2f}" for value in medians))


if __name__ == "__main__":
    main()
