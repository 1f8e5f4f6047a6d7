"""Truncated and random files end in one line that names them, never in another exception; kinds are told by content."""

import bz2
import gzip
import io
import lzma
import pickle
import random
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from backbone import create_backbone
from backbone.weights import load_weights
from backbone.weights.file_kinds import kind_of
from backbone.weights.read import read_weights
from tests.backbone.weights.weight_files import keras_layers, write_keras_new, write_keras_old


def torch_file(**options: object) -> bytes:
    state_dict = {f"conv_stem.{i}": torch.randn(50) for i in range(8)}
    buffer = io.BytesIO()
    torch.save(state_dict, buffer, **options)
    return buffer.getvalue()


def safetensors_file() -> bytes:
    library = pytest.importorskip("safetensors.torch")
    return library.save({f"conv_stem.{i}": torch.randn(50) for i in range(8)})


def keras_file() -> bytes:
    pytest.importorskip("h5py")
    return write_keras_old(keras_layers(0.1, num_classes=3, seed=1))


def keras_new_file() -> bytes:
    pytest.importorskip("h5py")
    return write_keras_new(keras_layers(0.1, num_classes=3, seed=1))


def tflite_file() -> bytes:
    pytest.importorskip("ai_edge_litert")
    from tests.backbone.weights.tflite_files import write_tflite

    return write_tflite(create_backbone("a010", num_classes=3, min_channels=1).eval(), 32)


def zipped(data: bytes, name: str = "net.bin") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("readme.txt", "hello")
        archive.writestr(name, data)
    return buffer.getvalue()


def tarred(data: bytes, name: str = "net.bin", mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for member, content in (("info.txt", b"hello"), (name, data)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


FILES = {
    "keras": keras_file,
    "keras 3": keras_new_file,
    "tflite": tflite_file,
    "safetensors": safetensors_file,
    "torch": torch_file,
    "old torch": lambda: torch_file(_use_new_zipfile_serialization=False),
    "zip": lambda: zipped(tflite_file()),
    "tar.gz": lambda: tarred(tflite_file()),
    "tar": lambda: tarred(tflite_file(), mode="w"),
}


def refused(data: bytes, match: str = "") -> None:
    with pytest.raises(ValueError, match=rf"^odd\.bin.*{match}") as caught:
        read_weights(data, name="odd.bin")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", FILES)
def test_truncated(kind):
    data = FILES[kind]()
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)[: 4 if kind == "tar" else None]:  # a tar ends in padding
        refused(data[: int(share * len(data))])
    for length in (0, 1, 7, 8, 9, 20, 100):
        refused(data[:length])


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", FILES)
def test_random_bytes_after_the_magic(kind):
    start = FILES[kind]()[:16]
    for seed in range(5):
        refused(start + random.Random(seed).randbytes(5000))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["tflite", "safetensors", "torch", "old torch", "zip", "tar.gz"])
def test_flipped_bytes(kind):
    """One byte in the structure of the file is changed: it loads or is refused in one line, nothing else."""
    data = FILES[kind]()
    places = random.Random(kind)
    for _ in range(60):
        where = places.choice([places.randrange(400), places.randrange(len(data)), -1 - places.randrange(400)])
        changed = bytearray(data)
        changed[where] ^= 1 << places.randrange(8)
        try:
            read_weights(bytes(changed), name="odd.bin")
        except ValueError as error:
            assert str(error).startswith("odd.bin") and "\n" not in str(error)


def test_random_and_empty():
    refused(random.Random(1).randbytes(1000), "no weight file that this reads .*weights are Keras")
    refused(b"", "it is empty")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\n"
OTHERS = {
    "gzip": (lambda: gzip.compress(torch_file()), "is compressed by gzip: unpack it"),
    "bzip2": (lambda: bz2.compress(torch_file()), "compressed by bzip2: unpack it"),
    "xz": (lambda: lzma.compress(torch_file()), "compressed by xz: unpack it"),
    "Git LFS": (lambda: LFS + b"size 12345\n", "a Git LFS pointer to the file: run `git lfs pull`"),
    "page": (lambda: b"\xef\xbb\xbf \n<!-- x -->\n<!doctype HTML><html>", "a web page about the file"),
    "XML": (lambda: b'<?xml version="1.0"?><Error>AccessDenied</Error>', "an XML document"),
    "JSON": (lambda: b'{"error": "Repository not found"}', "JSON text"),
    "pickle": (lambda: pickle.dumps({"a": [1]}), "a pickle of Python objects, which are not executed"),
    "NumPy": (lambda: npy(), "an array of NumPy"),
}


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", OTHERS)
def test_what_people_have_instead_of_weights_is_named(kind):
    make, message = OTHERS[kind]
    refused(make(), message)


def test_archives_with_none_or_several():
    refused(zipped(b"text"), "holds no weight file; unpack it and give one")
    refused(tarred(b"text"), "holds no weight file")
    two = io.BytesIO()
    with zipfile.ZipFile(two, "w") as archive:
        for name in ("a.pth", "b.pth"):
            archive.writestr(name, torch_file())
    refused(two.getvalue(), r"holds 2 weight files \(a\.pth, b\.pth\)")


def test_kind_is_told_from_the_content_not_the_name(tmp_path):
    for kind, expected in (("keras", "keras"), ("keras 3", "keras"), ("tflite", "tflite"), ("tar", "tar")):
        assert kind_of(FILES[kind]()) == expected
    assert kind_of(torch_file()) == kind_of(torch_file(_use_new_zipfile_serialization=False)) == "torch"
    assert kind_of(safetensors_file()) == "safetensors"
    for kind in ("keras", "tflite", "zip", "tar.gz", "tar"):
        path = tmp_path / "misnamed.pth"
        path.write_bytes(FILES[kind]())
        assert load_weights(path).num_classes == 3


def test_the_width_that_is_asked_for(tmp_path):
    path = tmp_path / "narrow.h5"
    path.write_bytes(keras_file())
    assert load_weights(path, width_mult=0.1).backbone == "a010"
    with pytest.raises(ValueError, match=r"narrow\.h5: has width 0\.10, 0\.75 was asked for$"):
        load_weights(path, width_mult=0.75)


def test_no_such_file(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.h5: no such file"):
        load_weights(tmp_path / "nothing.h5")
    with pytest.raises(ValueError, match="is a folder"):
        load_weights(str(tmp_path))
    with pytest.raises(
        ValueError, match=r"^keras-a100-225: no such file, and no published .*did you mean keras-a100-22"
    ):
        load_weights("keras-a100-225")


@pytest.mark.parametrize(
    "module, kind, package", [("h5py", "keras", "h5py"), ("safetensors", "safetensors", "safetensors")]
)
def test_a_missing_library_is_named(monkeypatch, module, kind, package):
    data = FILES[kind]()
    for name in (module, f"{module}.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    refused(data, f"needs {package}: pip install {package}$")
