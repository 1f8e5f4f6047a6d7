"""Fixtures that several rooms use: where real data is, and a tiny data set in COCO layout."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

os.environ.setdefault(
    "MOBILENET_APPS_RUNTIME", "torch"
)  # what "auto" means here: no test exports unless it is about it
if "PYTEST_XDIST_WORKER" in os.environ:  # processes side by side, one thread each; torch is not loaded yet
    os.environ.setdefault("OMP_NUM_THREADS", "1")
SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-runs", type=int, help="damaged files of each format that the fuzz tests read")
    parser.addoption("--fuzz-seed", type=int, default=0, help="of the first damaged file")


@pytest.fixture
def shared() -> Path:
    """The folder with real photos and published weights beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real photos of ../shared/data, which are not part of the project")
    return SHARED


@pytest.fixture(autouse=True)
def few_threads() -> None:
    cv2.setNumThreads(1)


def leave_out_reports(patch: pytest.MonkeyPatch, app: str) -> None:
    """Have runs end without a report and curves, which take longer than the steps of a tiny run."""
    patch.setattr(f"apps.{app}.eval.evaluate", lambda config: {})
    patch.setattr("apps.common.evaluation.finish.plot_curves", lambda *args, **options: None)


@pytest.fixture
def tiny_coco(tmp_path: Path) -> Path:
    return draw_tiny_coco(tmp_path / "tiny")


def draw_tiny_coco(root: Path, num_train: int = 8) -> Path:
    """Eight or more train and four val images of 96x64 pixels; class 3 is a red and class 7 a blue rectangle."""
    for split, number in (("train", num_train), ("val", 4)):
        rng = np.random.default_rng(len(split))
        images, annotations = [], []
        (root / split).mkdir(parents=True)
        for i in range(1, number + 1):
            image = rng.integers(90, 160, (64, 96, 3), dtype=np.uint8)
            for category_id in (3, 7)[: 1 + i % 2]:
                w, h = (int(v) for v in rng.integers(20, 40, 2))
                x, y = int(rng.integers(0, 96 - w)), int(rng.integers(0, 64 - h))
                image[y : y + h, x : x + w] = (20, 20, 230) if category_id == 3 else (230, 40, 20)  # BGR
                box = {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
                annotations.append({"id": len(annotations), "image_id": i, "category_id": category_id, **box})
            cv2.imwrite(str(root / split / f"{i:03d}.png"), image)
            images.append({"id": i, "file_name": f"{i:03d}.png", "width": 96, "height": 64})
        write_coco(root, split, images, annotations)
    return root


def write_coco(root: Path, split: str, images: list[dict], annotations: list[dict]) -> Path:
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path
