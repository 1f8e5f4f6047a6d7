"""Damaged weight files of every format, many of them: a result or one line, in bounded memory."""

from argparse import Namespace
from importlib import import_module
from pathlib import Path

import pytest

from backbone.weights.read import read_weights
from tests.backbone.weights.test_damaged import keras_file, keras_new_file, tarred, tflite_file, zipped
from tests.backbone.weights.test_torch import saved
from tests.backbone.weights.weight_files import timm_state_dict
from tests.fuzzing import Format, fuzz

pytest.importorskip("resource")
for library in ("h5py", "ai_edge_litert", "safetensors"):
    pytest.importorskip(library)


def read(data: bytes, folder: Path) -> None:
    read_weights(data, name="odd.bin")


def torch_files() -> list[bytes]:
    state_dict = timm_state_dict(num_classes=3, seed=1)
    checkpoint = {"state_dict": state_dict, "args": Namespace(lr=0.1, model="mobilenetv1_100"), "epoch": 3}
    return [
        *(saved(content) for content in (state_dict, checkpoint)),
        *(saved(content, _use_new_zipfile_serialization=False) for content in (state_dict, checkpoint)),
    ]


def safetensors_files() -> list[bytes]:
    return [import_module("safetensors.torch").save(timm_state_dict(num_classes=3, seed=1))]


FORMATS = {
    "keras": Format(lambda: [keras_file(), keras_new_file()], read, runs=40),
    "tflite": Format(lambda: [tflite_file()], read, runs=60),
    "safetensors": Format(safetensors_files, read, runs=60),
    "torch": Format(torch_files, read, runs=60),
    "archives": Format(
        lambda: [*map(zipped, torch_files()), tarred(tflite_file()), tarred(keras_file(), mode="w")], read
    ),
}


def test_never_anything_but_a_result_or_one_line_in_bounded_memory(request):
    fuzz(__name__, request.config)
