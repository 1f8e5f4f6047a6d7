"""Damaged model folders of all apps, and the caches beside them: a model whose answers are sane, or one line."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch

from apps.common.deploy.ncnn import check_param
from apps.detection.predict import Predictor as Finder
from apps.faceattr.loss.teacher_outputs import cached_outputs
from apps.faceattr.model.tagger import Tagger
from apps.faceattr.predict import Predictor as Describer
from apps.finegrained.predict import Predictor as Guesser
from tests.common.deploy.test_ncnn import NUM_BYTES, PARAM
from tests.common.media_files import write_photo
from tests.damage import in_json
from tests.damage_binary import in_safetensors
from tests.fuzzing import Format, fuzz

MODELS = Path(__file__).parents[2] / "demos/models"
IMAGE = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
MOST_PIXELS = 640  # of a square input that is computed; larger ones only load


def check_detector(predict: Any) -> None:
    assert all(isinstance(name, str) for name in predict.detector.class_names)
    assert 0 <= predict.threshold <= 1
    if predict.detector.resolution <= MOST_PIXELS:
        for found in predict(IMAGE):
            x0, y0, x1, y1 = found.box_xyxy_px
            assert 0 <= x0 <= x1 <= 80 and 0 <= y0 <= y1 <= 60 and 0 <= found.score <= 1, found
            assert found.name in predict.detector.class_names


def check_classifier(predict: Any) -> None:
    if predict.classifier.resolution <= MOST_PIXELS:
        found = predict(IMAGE)
        assert found and all(0 <= one.prob <= 1 for one in found) and np.isfinite(found.score), found
        assert all(one.name in predict.classifier.class_names for one in found)


def check_tagger(predict: Any) -> None:
    if predict.tagger.resolution <= MOST_PIXELS:
        (face,) = predict(IMAGE)
        assert all(0 <= prob <= 1 for prob in face.probs.values()), face
        assert set(face.present) <= set(face.probs) <= set(predict.tagger.attributes)


APPS: dict[str, Callable[[Path], None]] = {
    "detection": lambda folder: check_detector(Finder(folder, runtime="torch", conf=0.0, max_detections=20)),
    "finegrained": lambda folder: check_classifier(Guesser(folder, runtime="torch", top=3)),
    "faceattr": lambda folder: check_tagger(Describer(folder, runtime="torch", whole=True)),
}


def read_description(app: str, data: bytes, folder: Path) -> None:
    (folder / "best").mkdir()
    (folder / "best/model.json").write_bytes(data)
    (folder / "best/model.safetensors").symlink_to(MODELS / app / "model.safetensors")
    APPS[app](folder)


def read_weights(app: str, data: bytes, folder: Path) -> None:
    (folder / "model.json").symlink_to(MODELS / app / "model.json")
    (folder / "model.safetensors").write_bytes(data)
    APPS[app](folder)


def descriptions(app: str) -> list[bytes]:
    """That of a small model, with all that a description may say."""
    about = json.loads((MODELS / app / "model.json").read_text())
    assert about.get("metrics")
    return [json.dumps(about).encode()]


def weights(app: str) -> list[bytes]:
    return [(MODELS / app / "model.safetensors").read_bytes()]


@functools.cache
def tagger() -> Tagger:
    return Tagger.load(MODELS / "faceattr", device=torch.device("cpu"))


def teacher_outputs(folder: Path) -> np.ndarray:
    photos = [write_photo(folder / f"{i}.png", 50 * i) for i in range(2)]
    return cached_outputs(tagger(), MODELS / "faceattr", photos, batch_size=2, num_workers=0)


def in_cache(data: bytes, folder: Path, make: Callable[[Path], Any], file: str) -> Any:
    """What is made with a cache in which one file was damaged since it was written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOBILENET_APPS_CACHE", str(folder / "cache"))
        if data:
            (folder / "cache" / file).parent.mkdir(parents=True)
            (folder / "cache" / file).write_bytes(data)
        return make(folder)


@functools.cache
def kept_outputs() -> tuple[str, bytes, np.ndarray]:
    """The file of a teacher's outputs, by its name in the cache, and what is in it."""
    with TemporaryDirectory() as folder:
        right = in_cache(b"", Path(folder), teacher_outputs, "")
        file, *_ = sorted(Path(folder, "cache").rglob("*.safetensors"))
        return str(file.relative_to(Path(folder, "cache"))), file.read_bytes(), right


def read_outputs(data: bytes, folder: Path) -> None:
    """What is damaged is computed again; other numbers of the right form nobody can tell from the teacher's."""
    found = in_cache(data, folder, teacher_outputs, kept_outputs()[0])
    assert found.dtype == np.float16 and found.shape == kept_outputs()[2].shape and np.isfinite(found).all(), found


def read_param(data: bytes, folder: Path) -> None:
    """What NCNN is given to open has layers that it knows, and as many weights as they need."""
    assert check_param(data.decode("utf-8", "replace"), NUM_BYTES)


FORMATS = {
    f"{app} {file}": Format(samples, functools.partial(read, app), damage=how, runs=runs)
    for app in APPS
    for file, samples, read, how, runs in (
        ("model.json", functools.partial(descriptions, app), read_description, in_json, 60),
        ("model.safetensors", functools.partial(weights, app), read_weights, in_safetensors, 20),
    )
}
FORMATS["ncnn param"] = Format(lambda: [PARAM.encode()], read_param, runs=100)
FORMATS["teacher outputs"] = Format(lambda: [kept_outputs()[1]], read_outputs, damage=in_safetensors, runs=30)


def test_damaged_models(request):
    fuzz(__name__, request.config)
