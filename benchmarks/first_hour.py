"""Time a new user's path, from the clone to a detector of their own photos and its predictions.

    python benchmarks/first_hour.py --data PATH                    everything, in a fresh environment
    python benchmarks/first_hour.py --data PATH --skip-install     with the packages of this environment

PATH is a folder of annotated photos; the figures in docs are of 60 photos of raccoons in LabelImg's XML. It clones the
last commit of this checkout into a temporary folder and types there what README says: clone, cd, install, train,
predict. A fresh environment is what pip gets from its usual index: several gigabytes.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLONE = "git clone -q {root} mobilenet-apps"
INSTALL = 'python -m pip install -q -e ".[fast,tflite]" -c constraints.txt'
PATH = (
    "python apps/detection/train.py --data {data} --weights coco --head pyramid --resolution 192 --epochs 30 "
    "--batch-size 8",
    "python apps/detection/predict.py {photos} --checkpoint last",
)


def run(command: str, folder: Path, environment: dict[str, str]) -> float:
    """Type a command, and return after how many seconds it was done."""
    print(f"$ {command}", flush=True)
    began = time.perf_counter()
    subprocess.run(command, shell=True, check=True, cwd=folder, env=environment)
    return time.perf_counter() - began


def main() -> None:
    """Run the commands and print how long each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of annotated photos")
    parser.add_argument("--photos", type=Path, help="photos to predict; default those of --data")
    parser.add_argument("--skip-install", action="store_true", help="use the packages of this environment")
    args = parser.parse_args()
    data, photos = (shlex.quote(str(one.resolve())) for one in (args.data, args.photos or args.data))
    with tempfile.TemporaryDirectory() as name:
        folder, clone = Path(name), Path(name) / "mobilenet-apps"
        environment = {**os.environ, "PYTHONPATH": str(clone)}
        took = {"git clone": run(CLONE.format(root=shlex.quote(str(ROOT))), folder, environment)}
        if not args.skip_install:
            subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
            environment = {**os.environ, "PATH": f"{folder / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
            environment.pop("PYTHONPATH", None)
            took["pip install"] = run(INSTALL, clone, environment)
            size = sum(path.lstat().st_size for path in (folder / "venv").rglob("*"))
            print(f"the environment has {size / 1e9:.1f} GB")
        took["train"] = run(PATH[0].format(data=data), clone, environment)
        took["predict"] = run(PATH[1].format(photos=photos), clone, environment)
    print("\n".join(f"{name:12} {seconds:7.1f} s" for name, seconds in took.items()))
    print(f"{'in all':12} {sum(took.values()):7.1f} s")


if __name__ == "__main__":
    main()
