"""Draw the demos' example pictures, with the apps' own sample.py and a seed that no bundled model was trained on.

python demos/examples/make.py                                        all three apps, six pictures each
python demos/examples/make.py --seed 12                              others
"""

import dataclasses
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from apps.common.cli import run_command

EXAMPLES = Path(__file__).parent
SAMPLE_SCRIPTS = EXAMPLES.parent.parent / "apps"
NUM_PICTURES = 6
MAX_BYTES = 15_000
DRAWN = {
    "detection": (["--num-train", "1", "--num-val", "6"], "val/*.jpg", 1),
    "finegrained": (["--num-train", "12", "--num-val", "12"], "val/*/*.jpg", 2),
    # four pictures of a person follow each other; the first image is of the split train
    "faceattr": (
        ["--num-train", "1", "--num-val", "24", "--num-test", "1", "--num-unlabelled", "1"],
        "images/*.jpg",
        4,
    ),
}
"""For each app: flags of its sample.py, the pictures to take, and of how many one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Draw the example pictures of the demos.

    example: python demos/examples/make.py
    """

    out: Path = EXAMPLES
    """folder to write <app>/<number>.jpg into"""
    seed: int = 11
    """random seed of everything drawn; the sample sets have 0"""


def make(config: Config) -> None:
    """Draw small sample sets and copy some of their pictures.

    Raises:
        ValueError: a picture is too large.
    """
    for app, (flags, pattern, step) in DRAWN.items():
        with tempfile.TemporaryDirectory() as room:
            command = [str(SAMPLE_SCRIPTS / app / "sample.py"), "--out", f"{room}/set", "--seed", str(config.seed)]
            subprocess.run([sys.executable, *command, *flags], check=True, stdout=subprocess.DEVNULL)
            pictures = sorted(Path(room, "set").glob(pattern))[int(app == "faceattr") :: step][:NUM_PICTURES]
            (config.out / app).mkdir(parents=True, exist_ok=True)
            for i, picture in enumerate(pictures, start=1):
                if picture.stat().st_size > MAX_BYTES:
                    raise ValueError(f"picture {i} of {app} has more than {MAX_BYTES:,} bytes: take another --seed")
                shutil.copyfile(picture, config.out / app / f"{i}.jpg")
        print(f"{config.out / app}: {len(pictures)} pictures")


if __name__ == "__main__":
    run_command(make, Config)
