"""How many wrong labels are among the first suspects that check.py --checkpoint lists, against random order.

    python benchmarks/label_suspects.py finegrained --data GROCERY81 --work DIR --backbone a025 --epochs 12
    python benchmarks/label_suspects.py detection --data VOC2007 --work DIR --weights coco --resolution 192 --epochs 5

It writes a data set with the photos of train in two halves (the second is called test), and changes 5 % of their
labels: another class, or for a detector in equal parts a box removed, a box added, another class, or a box shifted by
25 to 50 % of its sides. A model is trained, with those flags that are train.py's, on the first half with its wrong
labels: it saw these photos, and not those of the second half. A planted error counts as found where its object, or for
a removed box a missing one with an IoU of 0.5 or more, is among the first N suspects of its half; N is a share of the
labels. How suspects are ranked was chosen with plantings 0 and 1; docs/own_photos.md has the figures of planting 2.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apps.common.checkpoint import load_json, save_json
from apps.common.cli import parse
from apps.common.data.tables import write_csv
from apps.common.device import choose_device
from apps.detection import check as detection_check
from apps.detection import train as detection_train
from apps.detection.evaluation.errors import overlaps
from apps.detection.model.detector import Detector
from apps.finegrained import check as finegrained_check
from apps.finegrained import train as finegrained_train
from apps.finegrained.data.load import list_data
from apps.finegrained.model.classifier import Classifier

SHARE, HALVES = 0.05, {"train": "saw the photos", "test": "did not"}
KINDS = ("removed", "added", "other class", "shifted")
Planted = dict[str, Any]


def plant_classes(source: Path, out: Path, rng: np.random.Generator) -> tuple[list[Planted], dict[str, int]]:
    """Write the table of photos; returns the wrong labels, and the number of labels of each half."""
    entries = [entry for entry in list_data(source).entries if entry.split in ("train", "val")]
    names = sorted({entry.class_name for entry in entries})
    train = [i for i, entry in enumerate(entries) if entry.split == "train"]
    splits = {i: tuple(HALVES)[k % 2] for k, i in enumerate(train)}
    wrong = set(rng.choice(train, round(SHARE * len(train)), replace=False).tolist())
    rows, planted = [], []
    for i, entry in enumerate(entries):
        path, split = entry.path.resolve(), splits.get(i, "val")
        others = [name for name in names if name != entry.class_name]
        label = str(rng.choice(others)) if i in wrong else entry.class_name
        rows.append([path, label, split])
        if i in wrong:
            planted.append({"split": split, "file": str(path), "kind": "other class"})
    write_csv(out, ["file", "label", "split"], rows)
    return planted, {half: list(splits.values()).count(half) for half in HALVES}


def plant_boxes(source: Path, out: Path, rng: np.random.Generator) -> tuple[list[Planted], dict[str, int]]:
    """Write the COCO file; returns the wrong labels, and the number of labels of each half."""
    content, planted = {"images": [], "annotations": [], "categories": []}, []
    for split in ("train", "val"):
        part = load_json(source / f"annotations/instances_{split}.json")
        content["categories"] = part["categories"]
        for i, image in enumerate(part["images"]):
            path = (source / "images" / image["file_name"]).resolve()
            half = tuple(HALVES)[i % 2] if split == "train" else split
            content["images"].append({**image, "file_name": str(path), "split": half})
        content["annotations"] += part["annotations"]
    assert len({one["id"] for one in content["images"]}) == len(content["images"])
    images = {image["id"]: image for image in content["images"]}
    objects = [one for one in content["annotations"] if not one["iscrowd"]]
    ids = [one["id"] for one in content["categories"]]
    changeable = [one for one in objects if images[one["image_id"]]["split"] in HALVES]
    counts = {half: sum(images[one["image_id"]]["split"] == half for one in changeable) for half in HALVES}
    for number, one in enumerate(content["annotations"], start=1):
        one["id"] = number
    some = rng.choice(len(changeable), round(SHARE * len(changeable)), replace=False)
    for k, i in enumerate(some.tolist()):
        one, kind = changeable[i], KINDS[k % len(KINDS)]
        image = images[one["image_id"]]
        fact = {"split": image["split"], "file": image["file_name"], "kind": kind, "box": one["bbox"]}
        x, y, w, h = one["bbox"]
        if kind == "removed":
            content["annotations"] = [other for other in content["annotations"] if other is not one]
        elif kind == "other class":
            one["category_id"] = int(rng.choice([c for c in ids if c != one["category_id"]]))
        elif kind == "shifted":
            dx, dy = rng.uniform(0.25, 0.5, 2) * rng.choice([-1, 1], 2) * (w, h)
            one["bbox"] = clipped(x + dx, y + dy, w, h, image)
        else:
            there = np.array([o["bbox"] for o in content["annotations"] if o["image_id"] == image["id"]], dtype=float)
            one = place_box(image, there, changeable, ids, rng)
            content["annotations"].append({**one, "id": len(objects) + 100_000 + k})
            one = content["annotations"][-1]
        planted.append({**fact, "object": f"annotation {one['id']}"})
    for one in content["annotations"]:
        one["area"] = one["bbox"][2] * one["bbox"][3]
        one.pop("segmentation", None)
    save_json(out, content)
    return planted, counts


def clipped(x: float, y: float, w: float, h: float, image: dict[str, Any]) -> list[float]:
    """A box as far as it is in the image, at least 4 pixels of it."""
    x0, y0 = min(max(x, 0), image["width"] - 4), min(max(y, 0), image["height"] - 4)
    x1, y1 = min(max(x + w, x0 + 4), image["width"]), min(max(y + h, y0 + 4), image["height"])
    return [float(v) for v in (x0, y0, x1 - x0, y1 - y0)]


def place_box(
    image: dict[str, Any], there: np.ndarray, objects: Sequence[dict[str, Any]], ids: Sequence[int], rng: Any
) -> dict[str, Any]:
    """An object of a random class and of another one's size where none is, if that is possible in 100 tries."""
    for _ in range(100):
        w, h = objects[int(rng.integers(len(objects)))]["bbox"][2:]
        w, h = min(w, image["width"] / 2), min(h, image["height"] / 2)
        box = [rng.uniform(0, image["width"] - w), rng.uniform(0, image["height"] - h), w, h]
        if overlaps(np.array([box]), there).max(initial=0) < 0.1:
            break
    return {"image_id": image["id"], "category_id": int(rng.choice(ids)), "bbox": list(map(float, box)), "iscrowd": 0}


def is_found(error: Planted, suspect: dict[str, Any]) -> bool:
    """Whether a suspect is this wrong label."""
    if error["kind"] == "removed":
        x0, y0, x1, y1 = suspect["box_xyxy_px"]
        same = overlaps(np.array([[x0, y0, x1 - x0, y1 - y0]]), np.array([error["box"]], dtype=float)).max() >= 0.5
        return suspect["kind"] == "missing box" and bool(same)
    return suspect["object"] == error.get("object", suspect["object"])


def report(
    planted: Sequence[Planted],
    counts: dict[str, int],
    suspects: Sequence[dict[str, Any]],
    halves: dict[str, str] = HALVES,
) -> None:
    """Print a table: the share of each half's planted errors among its first N suspects."""
    print("| model | labels | planted | suspects | first 2 % | 5 % | 10 % | 20 % | random, 10 % | found in the 10 % |")
    for half, words in halves.items():
        mine = [suspect for suspect in suspects if suspect["split"] == half]
        at_file: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for rank, suspect in enumerate(mine):
            at_file.setdefault(suspect["file"], []).append((rank, suspect))
        errors = [error for error in planted if error["split"] == half]
        ranks = [
            min((rank for rank, one in at_file.get(error["file"], ()) if is_found(error, one)), default=len(mine) + 1e9)
            for error in errors
        ]
        shares = [np.mean([rank < part * counts[half] for rank in ranks]) for part in (0.02, 0.05, 0.1, 0.2)]
        kinds = dict.fromkeys(error["kind"] for error in errors)
        of_kind = {
            kind: [r < 0.1 * counts[half] for r, e in zip(ranks, errors, strict=True) if e["kind"] == kind]
            for kind in kinds
        }
        cells = ", ".join(f"{kind} {sum(found)} of {len(found)}" for kind, found in of_kind.items())
        numbers = " | ".join(f"{share:.3f}" for share in shares)
        print(f"| {words} | {counts[half]:,} | {len(errors)} | {len(mine):,} | {numbers} | 0.100 | {cells} |")


DOORS = {
    "detection": (detection_train, detection_check, Detector.load, plant_boxes, "data.json"),
    "finegrained": (finegrained_train, finegrained_check, Classifier.load, plant_classes, "data.csv"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("app", choices=DOORS)
    parser.add_argument("--data", type=Path, required=True, help="grocery81, or a folder with instances_train.json")
    parser.add_argument("--work", type=Path, required=True, help="new folder; a finished run in it is used again")
    parser.add_argument("--planting", type=int, default=0, help="seed of what is changed")
    parser.add_argument("--published", help="detection: no training, but this detector (of a075), which saw no photo")
    args, flags = parser.parse_known_args()  # the others are train.py's
    train, check, load, plant, name = DOORS[args.app]
    data, run = args.work / name, args.work / "run"
    if not data.exists():
        args.work.mkdir(parents=True, exist_ok=True)
        planted, counts = plant(args.data, data, np.random.default_rng(args.planting))
        save_json(args.work / "planted.json", {"planted": planted, "counts": counts})
    device = choose_device("auto")
    if args.published:
        model = Detector.published(args.published, backbone="a075", device=device)
    else:
        if not (run / "metrics.json").exists():
            train.train(parse(train.Config, ["--data", str(data), "--out", str(run), *flags]))
        model = load(run, device=device)
    check.list_suspects(check.Config(data=str(data), checkpoint=run, out=args.work / "check"), model)
    told = json.loads((args.work / "planted.json").read_text())
    halves = dict.fromkeys(HALVES, "saw none") if args.published else HALVES
    report(told["planted"], told["counts"], load_json(args.work / "check/suspects.json")["suspects"], halves)


if __name__ == "__main__":
    main()
