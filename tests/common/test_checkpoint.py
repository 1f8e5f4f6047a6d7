"""Files of models and runs that others made: every wrong value is one line, nothing is built of it."""

import copy
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from apps.common.checkpoint import load_json, load_model, load_object
from apps.common.training.resume import load_settings, resumed_config
from apps.common.training.run_log import read_metrics
from apps.detection.model.detector import Detector
from apps.detection.predict import Predictor as Finder
from apps.faceattr.model.tagger import Tagger
from apps.faceattr.predict import Predictor as Describer
from apps.finegrained.model.classifier import Classifier
from apps.finegrained.predict import Predictor as Guesser
from apps.finegrained.train import Config

MODELS = Path(__file__).parents[2] / "demos/models"
CPU = torch.device("cpu")
LOADERS = {"detection": Detector.load, "finegrained": Classifier.load, "faceattr": Tagger.load}
PREDICTORS = {
    "detection": partial(Finder, runtime="torch"),
    "finegrained": partial(Guesser, runtime="torch"),
    "faceattr": partial(Describer, runtime="torch", whole=True),
}
WRONG = [None, [], {}, "160", 0, -1, 60_000, 1.5, float("nan"), float("inf"), True, "\x1b[31m", [[]], [0], [None] * 3]


@pytest.fixture(params=sorted(LOADERS))
def model(request, tmp_path):
    """A model folder, its description, and what loads it."""
    folder = tmp_path / "model"
    app = f'"app": "{request.param}"'
    shutil.copytree(next(f.parent for f in MODELS.glob("*/model.json") if app in f.read_text()), folder)
    return folder, json.loads((folder / "model.json").read_text()), LOADERS[request.param]


def places(about, path=()):
    for key, value in about.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from places(value, (*path, key))


def test_every_wrong_value_of_a_model_is_one_line(model):
    folder, about, load = model
    load(folder, device=CPU)
    kept = json.dumps(about)
    refused = 0
    for path in places(about):
        if path[0] == "metrics" and len(path) > 1:
            continue
        for wrong in WRONG:
            changed = copy.deepcopy(about)
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = wrong
            (folder / "model.json").write_text(json.dumps(changed))
            try:
                load(folder, device=CPU)
            except ValueError as error:
                assert str(error).isprintable(), (path, wrong, error)
                refused += 1
    assert refused > 150
    (folder / "model.json").write_text(kept)
    load(folder, device=CPU)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(model, number):
    folder, _, load = model
    weights = load_file(folder / "model.safetensors")
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[name].flatten()[-1] = number
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=rf"model\.safetensors is damaged: '{name}' is not finite"):
        load(folder, device=CPU)


def test_a_file_that_stands_for_the_weights_is_named(model):
    folder, _, load = model
    for content, message in (
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
            "is missing or damaged, but a Git LFS pointer to the file: run",
        ),
        (b"<html>log in</html>", "is missing or damaged, but a web page about the file"),
        (b"", "is missing or damaged"),
    ):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=rf"model\.safetensors {message}"):
            load(folder, device=CPU)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(5_000_000_000)  # of which the disk holds nothing
    with pytest.raises(ValueError, match=r"model\.safetensors has 5,000,000,000 bytes, 4,000,000,000 are allowed"):
        load(folder, device=CPU)


def test_outputs_that_overflow_are_no_answer(model):
    folder, about, _ = model
    weights = load_file(folder / "model.safetensors")
    large = {name: torch.full(t.shape, 3e38) if t.ndim in (2, 4) else t for name, t in weights.items()}
    save_file(large, folder / "model.safetensors")
    predict = PREDICTORS[about["app"]](folder)
    with pytest.raises(ValueError, match="gives outputs that are not finite"):
        predict(np.full((40, 40, 3), 200, np.uint8))


DEEP = ("[" * 100_000, '{"a":' * 100_000)


@pytest.mark.parametrize("text", ["[]", "null", "3", '"a"', "{", "", "{}", "1" * 5000, *DEEP])
def test_what_is_no_description_is_one_line(model, text):
    folder, _, load = model
    (folder / "model.json").write_text(text)
    with pytest.raises(ValueError, match=r"model|checkpoint") as error:
        load(folder, device=CPU)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("key", "wrong", "message"),
    [
        ("resolution", "160", r"model\.json .* resolution must be a whole number from 16 to 8192, it is '160'"),
        ("resolution", 60_000, "resolution must be"),
        ("preprocessing", {"mean": [0, 0, 0], "std": [1, 0, 1]}, r"preprocessing\.std must be three numbers above 0"),
        ("class_names", ["a", "a"], "class_names must be a list of different names"),
        ("class_names", ["caf\udce9", "a"], "class_names must be a list of different names in UTF-8"),
        ("style", None, "style must be an object with activation, norm, norm_eps, padding"),
    ],
)
def test_the_message_has_the_key_and_what_is_allowed(model, key, wrong, message):
    folder, about, _ = model
    (folder / "model.json").write_text(json.dumps({**about, key: wrong}))
    with pytest.raises(ValueError, match=message):
        load_model(folder, app=about["app"])


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        *(("threshold", wrong) for wrong in (-0.1, 1.01, "0.3", True, float("nan"), [0.3])),
        *(
            ("category_ids", wrong)
            for wrong in ([True, *range(2, 7)], [1, *range(1, 6)], [1], [10**30, *range(5)], None)
        ),
        *(("anchor_shapes", wrong) for wrong in ([[[0.1, 0.1]]], [[[0, 1]]] * 6, [[]], None, [[[0.1, 0.1, 0.1]]] * 6)),
        *(("metrics", wrong) for wrong in ({"AP": float("nan")}, {"a": {"b": [float("inf")]}}, [])),
        *(("head", wrong) for wrong in ("pyramids", 3, ["ssd"])),
        *(("resolution", wrong) for wrong in (15, 8193, 160.0, True)),
        ("score_function", "argmax"),
        ("backbone", "a" + "9" * 5000),
        ("preprocessing", {"mean": [0, 0, 0], "std": [1, 1, 1], "channels": "BGR"}),
    ],
)
def test_every_field_of_a_detector_has_its_kind_and_range(tmp_path, key, wrong):
    shutil.copytree(MODELS / "detection", tmp_path / "model")
    about = json.loads((tmp_path / "model/model.json").read_text())
    Detector.load(tmp_path / "model", device=CPU)
    (tmp_path / "model/model.json").write_text(json.dumps({**about, "head": "ssd", key: wrong}))
    with pytest.raises(ValueError) as error:
        Detector.load(tmp_path / "model", device=CPU)
    assert str(error.value).isprintable() and key in str(error.value)


def test_json_of_other_encodings(tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
        (tmp_path / "a.json").write_bytes('{"é": "猫"}'.encode(encoding))
        assert load_json(tmp_path / "a.json") == {"é": "猫"}
    (tmp_path / "a.json").write_bytes(b'{"' + b"x" * 300 + b'": 1}')
    with pytest.raises(ValueError, match="has 307 bytes: it is not the file of a model or a run"):
        load_object(tmp_path / "a.json", most_bytes=100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("[]", "must hold an object"),
        ("{}", "it has no settings of a run"),
        ('{"config": []}', "it has no settings of a run"),
        ('{"config": {"resolution": "160"}}', "is damaged: resolution cannot be '160'"),
        ('{"config": {"epochs": NaN}}', "is damaged: epochs cannot be nan"),
        ('{"config": {"data": [3]}}', r"is damaged: data cannot be \[3\]"),
        ('{"config": ' + "[" * 50_000, "is not valid JSON"),
    ],
)
def test_settings_of_a_damaged_run(tmp_path, settings, message):
    (tmp_path / "config.json").write_text(settings)
    with pytest.raises(ValueError, match=message):
        resumed_config(Config(resume=tmp_path), tmp_path)


def test_settings_come_back_with_their_types(tmp_path):
    (tmp_path / "config.json").write_text('{"config": {"backbone": "a050", "resume": null, "epochs": 3}}')
    assert load_settings(tmp_path)["backbone"] == "a050"
    assert resumed_config(Config(resume=tmp_path), tmp_path) == Config(resume=tmp_path, backbone="a050", epochs=3)


@pytest.mark.parametrize("line", ["[]", "null", '{"event": "eval"}', '{"step": "1", "event": "x"}', "{", "[" * 50_000])
def test_damaged_lines_of_a_record_are_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text('{"event": "train", "step": 1}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl line 2 is damaged"):
        read_metrics(tmp_path)
