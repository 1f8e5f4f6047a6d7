"""The embedded sample set: a reef with six kinds of animals, in COCO layout; drawn on first use, then kept.

    python apps/detection/sample.py                                  draw it (under a minute), say where it is
    python apps/detection/sample.py --contact-sheet reef.png         and show some of its pictures with their boxes
    python apps/detection/sample.py --out reef --num-train 5000      a larger one, in a folder of its own

Every picture is a function of the seed, its split and its number alone, however many processes draw. This module
does without torch, and so do the processes.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from apps.detection.reef.animals import ANIMALS
from apps.detection.reef.scene import draw_scene

SAMPLE_RESOLUTION = 160
"""The side of the network's input, in pixels, that this set is made for."""

NUM_TRAIN, NUM_VAL = 2000, 240
SPLITS = ("train", "val")
# With gaps, as in COCO: category ids are names, not places in a list.
CATEGORY_IDS = dict(zip(ANIMALS, (1, 2, 3, 5, 7, 8), strict=True))
JPEG_QUALITY = 88
WORTH_A_WORKER = 100  # pictures
WORKER = "import json, sys; from apps.detection import sample; sample.draw_share(**json.loads(sys.argv[1]))"
PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Draw the sample set of the detector."""

    out: Path | None = None
    """folder to draw into, which must be new or empty; default a folder in the cache"""
    num_train: int = NUM_TRAIN
    """training images"""
    num_val: int = NUM_VAL
    """validation images"""
    seed: int = 0
    """of everything drawn"""
    num_workers: int | None = None
    """processes that draw; default one a core"""
    contact_sheet: Path | None = None
    """also write this image file: the first training images with their boxes"""


def make_sample(
    root: Path | None = None,
    *,
    num_train: int = NUM_TRAIN,
    num_val: int = NUM_VAL,
    seed: int = 0,
    num_workers: int | None = None,
) -> Path:
    """Draw the set, or find it where it was drawn before, and return its folder.

    Args:
        root: the folder; by default one in the cache that belongs to these numbers and this version of the drawing.
        num_workers: processes that draw; by default one for each core.

    Raises:
        ValueError: a number is too small, or `root` holds something else.
    """
    from backbone.files import cache_dir, written_whole  # here: its package loads torch

    for name, number, least in (("num_train", num_train, 1), ("num_val", num_val, 1), ("seed", seed, 0)):
        if number < least:
            raise ValueError(f"{name} is {number}, it must be {least} or more")
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers is {num_workers}, it must be 1 or more")
    info = {
        "description": "A drawn reef with six kinds of animals",
        "drawing": fingerprint(),
        "num_train": num_train,
        "num_val": num_val,
        "seed": seed,
    }
    key = hashlib.sha256(json.dumps(info).encode()).hexdigest()[:12]
    given, root = root, Path(root or cache_dir() / f"detection-sample-v1-{key}").absolute()
    if is_drawn(root, info):
        return root
    if given is not None and root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise ValueError(f"{root} exists and is not this sample set: give a folder that is new or empty")
    print(f"drawing the sample set ({num_train:,} + {num_val:,} pictures) into {root}", flush=True)
    try:
        with written_whole(root, folder=True) as folder:
            for split in SPLITS:
                (folder / split).mkdir()
            draw_all(folder, num_train=num_train, num_val=num_val, seed=seed, num_workers=num_workers)
            write_annotations(folder, info)
            if is_drawn(root, info):
                raise FileExistsError(root)  # another process was faster, and its set may be in use: keep that one
    except OSError:
        if not is_drawn(root, info):
            raise
    return root


def fingerprint() -> str:
    """Stands for the code that draws, so that no set drawn by another version of it is taken for this one's."""
    files = [Path(__file__), *sorted((Path(__file__).parent / "reef").glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def is_drawn(root: Path, info: dict[str, Any]) -> bool:
    """Whether a folder holds the set of this `info`; it was written whole or not at all."""
    try:
        return json.loads((root / "annotations" / "instances_val.json").read_text(encoding="utf-8"))["info"] == info
    except (OSError, ValueError, LookupError, TypeError):
        return False


def draw_all(folder: Path, *, num_train: int, num_val: int, seed: int, num_workers: int | None) -> None:
    """Draw all pictures, in several processes where there is enough to do.

    They are started as plain commands: a process pool would first load all that the calling script imports.
    """
    total = num_train + num_val
    num_shares = num_workers or min(num_cores(), 1 + total // WORTH_A_WORKER)
    share = {"folder": str(folder), "num_train": num_train, "num_val": num_val, "seed": seed, "num_shares": num_shares}
    if num_shares == 1:
        return draw_share(**share, share=0)  # type: ignore[arg-type]
    processes: list[subprocess.Popen] = []
    try:
        for number in range(num_shares):
            command = [sys.executable, "-c", WORKER, json.dumps({**share, "share": number})]
            processes.append(subprocess.Popen(command, cwd=PROJECT))
        for process in processes:
            if process.wait():
                raise RuntimeError(f"a process drawing the sample set ended with code {process.returncode}")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def draw_share(folder: str, *, num_train: int, num_val: int, seed: int, share: int, num_shares: int) -> None:
    """Draw every `num_shares`-th picture, and write what they hold to `folder`/share-<share>.jsonl."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    numbers = [
        (split, index) for split, count in zip(SPLITS, (num_train, num_val), strict=True) for index in range(count)
    ]
    with open(Path(folder) / f"share-{share}.jsonl", "w", encoding="utf-8") as lines:
        for image_id, (split, index) in list(enumerate(numbers, start=1))[share::num_shares]:
            rng = np.random.default_rng((seed, SPLITS.index(split), index))
            picture, found = draw_scene(rng, list(ANIMALS)[index % len(ANIMALS)])
            name = f"{image_id:06d}.jpg"
            path = Path(folder) / split / name
            if not cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
                raise OSError(f"cannot write {path}")
            image = {"id": image_id, "file_name": name, "width": picture.shape[1], "height": picture.shape[0]}
            animals = [(CATEGORY_IDS[one.name], one.box_xywh, int(np.count_nonzero(one.visible))) for one in found]
            lines.write(json.dumps({"split": split, "image": image, "animals": animals}) + "\n")
    cv2.setNumThreads(threads)


def write_annotations(folder: Path, info: dict[str, Any]) -> None:
    """Make COCO's files of what the shares hold, and remove those."""
    shares = sorted(folder.glob("share-*.jsonl"))
    records = [json.loads(line) for share in shares for line in share.read_text(encoding="utf-8").splitlines()]
    records.sort(key=lambda record: record["image"]["id"])
    categories = [{"id": number, "name": name, "supercategory": "animal"} for name, number in CATEGORY_IDS.items()]
    annotations: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    next_id = 1
    for record in records:
        for category_id, box_xywh, area in record["animals"]:
            what = {"id": next_id, "image_id": record["image"]["id"], "category_id": category_id}
            annotations[record["split"]].append({**what, "bbox": box_xywh, "area": area, "iscrowd": 0})
            next_id += 1
    (folder / "annotations").mkdir()
    for split in SPLITS:
        images = [record["image"] for record in records if record["split"] == split]
        content = {"info": info, "images": images, "annotations": annotations[split], "categories": categories}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")
    for share in shares:
        share.unlink()


def write_contact_sheet(root: Path, path: Path, *, split: str = "train", width: int = 1600, num_rows: int = 5) -> None:
    """Write one image file with the first pictures of a split and their boxes, row by row."""
    rows: list[list[np.ndarray]] = [[]]
    for picture in read_boxed(root, split, height=256):
        if sum(other.shape[1] for other in rows[-1]) + picture.shape[1] > width:
            if len(rows) == num_rows:
                break
            rows.append([])
        rows[-1].append(picture)
    sheet = np.full((256 * len(rows), width, 3), 255, np.uint8)
    for number, row in enumerate(rows):
        left = (width - sum(picture.shape[1] for picture in row)) // 2
        for picture in row:
            sheet[256 * number : 256 * (number + 1), left : left + picture.shape[1]] = picture
            left += picture.shape[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), sheet):
        raise OSError(f"cannot write {path}")


def read_boxed(root: Path, split: str, *, height: int) -> Iterator[np.ndarray]:
    """The pictures (height, W, 3) BGR of a split in a white frame, each box drawn into them with its class."""
    content = json.loads((root / "annotations" / f"instances_{split}.json").read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in content["categories"]}
    for image in content["images"]:
        scale = height / image["height"]
        picture = np.asarray(cv2.imread(str(root / split / image["file_name"])))
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        for annotation in content["annotations"]:
            if annotation["image_id"] == image["id"]:
                x, y, w, h = (round(scale * value) for value in annotation["bbox"])
                name, font = names[annotation["category_id"]], cv2.FONT_HERSHEY_SIMPLEX
                wide, tall = cv2.getTextSize(name, font, 0.4, 1)[0]
                top = max(y - tall - 5, 0)
                cv2.rectangle(picture, (x, y), (x + w - 1, y + h - 1), (80, 255, 255), 1)
                cv2.rectangle(picture, (x, top), (x + wide + 3, top + tall + 4), (80, 255, 255), -1)
                cv2.putText(picture, name, (x + 2, top + tall + 2), font, 0.4, (60, 30, 0), 1, cv2.LINE_AA)
        yield cv2.copyMakeBorder(picture[2:-2], 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def main(config: Config) -> None:
    """Draw the set that `config` describes and say where it is."""
    root = make_sample(
        config.out,
        num_train=config.num_train,
        num_val=config.num_val,
        seed=config.seed,
        num_workers=config.num_workers,
    )
    print(root)
    if config.contact_sheet:
        write_contact_sheet(root, config.contact_sheet)


if __name__ == "__main__":
    from apps.common.cli import run_command  # here: the drawing processes need no flags

    run_command(main, Config)
