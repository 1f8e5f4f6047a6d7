"""Untrained models of all three apps, and a real server with all of them on a free port."""

import csv
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
import torch
from gradio_client import Client

from apps.common.pretrained import TENSORFLOW_STYLE
from apps.detection.boxes.postprocess import PostProcess
from apps.detection.model.create import create_detector
from apps.detection.model.detector import Detector
from apps.faceattr.model.create import create_network
from apps.faceattr.model.tagger import Tagger
from apps.finegrained.model.classifier import Classifier
from apps.finegrained.model.create import create_classifier
from demos import serving
from demos.chooser import make_models
from demos.detection import DetectionTask
from demos.faceattr import FaceattrTask
from demos.finegrained import FinegrainedTask
from demos.page import make_page
from demos.rooms import private_room

SPECIES = ["robin", "wren", "=finch"]
ATTRIBUTES = ["Eyeglasses", "Male", "Smiling", "Young"]


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder for each app; the detector finds something everywhere, the tagger sees every attribute."""
    root = tmp_path_factory.mktemp("untrained models")
    torch.manual_seed(0)
    style = TENSORFLOW_STYLE
    network = create_detector("a025", num_classes=2, resolution=96, head="ssd", style=style)
    Detector(
        network=network,
        backbone="a025",
        class_names=["red", "blue"],
        category_ids=[1, 2],
        postprocess=PostProcess("sigmoid"),
    ).save(root / "detection" / "best", metrics={"AP": 0.5, "per class": {"red": 0.25}})
    classes = create_classifier("a025", num_classes=len(SPECIES), style=style)
    Classifier(network=classes, backbone="a025", resolution=64, class_names=SPECIES).save(
        root / "finegrained" / "best", metrics={}
    )
    faces = create_network("a025", num_attributes=len(ATTRIBUTES), style=style, conv="separable")
    Tagger(
        network=faces,
        backbone="a025",
        resolution=64,
        attributes=ATTRIBUTES,
        style=style,
        margin=0.4,
        thresholds=[0.001] * len(ATTRIBUTES),
    ).save(root / "faceattr" / "best", metrics={})
    return {app: root / app / "best" for app in ("detection", "finegrained", "faceattr")}


@pytest.fixture(scope="session")
def room() -> Path:
    """Where the server keeps uploads and results."""
    return private_room()


@pytest.fixture(scope="session")
def page(model_folders: dict[str, Path], room: Path) -> Iterator[gr.Blocks]:
    tasks = [
        (task, make_models(task, checkpoint=model_folders[task.app], device="cpu"))
        for task in (DetectionTask(), FinegrainedTask(), FaceattrTask())
    ]
    page = make_page(tasks, title="MobileNet apps")
    serving.launch(page, serving.Server(), wait=False)
    yield page
    page.close(verbose=False)


@pytest.fixture(scope="session")
def client(page: gr.Blocks, tmp_path_factory: pytest.TempPathFactory) -> Client:
    assert page.local_url
    return Client(page.local_url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


def rows_of(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
