"""What a classifying network starts from."""

import dataclasses
import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import save

from apps.common import pretrained
from apps.common.checkpoint import save_model
from apps.common.pretrained import TENSORFLOW_STYLE, learn_rounding, load_pretrained
from backbone import create_backbone, parse_backbone
from backbone.weights import find_entry
from backbone.weights.catalog import WeightFile
from backbone.weights.fetch import weights_dir


def description(backbone: str) -> dict:
    style = {"padding": "symmetric", "activation": "relu", "norm": "batch", "norm_eps": 1e-5}
    preprocessing = {"mean": [1, 2, 3], "std": [4, 5, 6]}
    facts = {"app": "x", "backbone": backbone, "resolution": 64, "class_names": ["a", "b"]}
    return {**facts, "style": style, "preprocessing": preprocessing}


def test_classifier_rows_are_taken_by_name(tmp_path):
    trained = create_backbone("a025", num_classes=2)
    save_model(tmp_path / "model", trained, description("a025"))
    start = load_pretrained(tmp_path / "model", width_mult=0.25, app="x")
    assert start.style.activation == "relu"
    assert start.preprocessing.std == (4, 5, 6)
    network = create_backbone("a025", num_classes=3)
    fresh = network.classifier.weight.detach().clone()
    assert start.put_into(network, ["c", "b", "d"]) == "the backbone is taken, 1 of 3 classifier rows are taken by name"
    assert torch.equal(network.classifier.weight[1], trained.classifier.weight[1])
    assert torch.equal(network.classifier.weight[[0, 2]], fresh[[0, 2]])
    assert torch.equal(network.blocks["conv13"].pointwise.conv.weight, trained.blocks["conv13"].pointwise.conv.weight)


def test_nothing_and_wrong_things(tmp_path):
    start = load_pretrained("none", width_mult=0.5, app="x")
    assert start.style == TENSORFLOW_STYLE
    assert start.put_into(create_backbone("a050", num_classes=2), ["a", "b"]) == "all weights are new"
    save_model(tmp_path / "model", create_backbone("a025", num_classes=2), description("a025"))
    with pytest.raises(ValueError, match=r"are of width a025, a050 was asked for"):
        load_pretrained(tmp_path / "model", width_mult=0.5, app="x")
    with pytest.raises(ValueError, match=r"is of the app 'x', this is 'y'"):
        load_pretrained(tmp_path / "model", width_mult=0.25, app="y")
    with pytest.raises(ValueError, match="did you mean imagenet"):
        load_pretrained("imagnet", width_mult=0.75, app="x")
    other = create_backbone("a025", num_classes=2, shallow=True)
    with pytest.raises(ValueError, match=r"blocks\.conv\d+.* has shape .* this network has no such layer"):
        load_pretrained(tmp_path / "model", width_mult=0.25, app="x").put_into(other, ["a", "b"])


@pytest.mark.parametrize(
    ("name", "backbone", "mean"),
    [("mobilenet_1_0_224_tf.h5", "a100", 127.5), ("mobilenet_v1_0.25_128_quant.tflite", "a025", 128)],
)
def test_published_weights_bring_their_preprocessing(shared, name, backbone, mean):
    start = load_pretrained(shared / "weights" / name, width_mult=parse_backbone(backbone), app="x")
    assert start.preprocessing.mean == pytest.approx((mean,) * 3, rel=1e-3)
    assert start.folded == name.endswith(".tflite")
    network = create_backbone(backbone, num_classes=5)
    assert "0 of 5 classifier rows" in start.put_into(network, list("abcde"))


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """Empty caches, and no way to fill them."""

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    weights_dir().mkdir(parents=True)


def test_imagenet_without_network_takes_what_is_here(no_network, capsys):
    pytest.importorskip("h5py")
    from tests.backbone.weights.weight_files import keras_layers, write_keras_old

    with pytest.raises(
        ValueError, match=r"cannot download pytorchcv-a025 \(no network\).*`--weights none` starts from random weights"
    ):
        load_pretrained("imagenet", width_mult=0.25, app="x")
    entry = find_entry("keras-a025-128")
    (weights_dir() / entry.file_name).write_bytes(write_keras_old(keras_layers(0.25, num_classes=1000, seed=1)))
    assert load_pretrained("imagenet", width_mult=0.25, app="x").summary.startswith(f"a025 from {entry.url} (")
    assert "cannot download pytorchcv-a025" in (said := capsys.readouterr().out)
    assert said.endswith("run again; meanwhile keras-a025-128 is taken, which is on this machine\n")


class Served(SimpleHTTPRequestHandler):
    """Sends a file."""

    data = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.data)

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def entry(tmp_path, monkeypatch) -> Iterator[WeightFile]:
    """A catalog's only entry, whose file a server on this machine sends."""
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "cache"))
    Served.data = save({"a": torch.zeros(3)})
    with ThreadingHTTPServer(("127.0.0.1", 0), Served) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        digest = f"sha256:{hashlib.sha256(Served.data).hexdigest()}"
        url = f"http://127.0.0.1:{server.server_port}/weights.safetensors"
        yield dataclasses.replace(find_entry("coco-a100"), url=url, size=len(Served.data), digest=digest)
        server.shutdown()


def test_what_a_page_begins_with_is_downloaded_and_verified(entry, monkeypatch, capsys):
    monkeypatch.setattr(pretrained, "find_entry", {"x": entry}.__getitem__)
    assert pretrained.is_ready(["x"])
    assert (weights_dir() / "weights.safetensors").read_bytes() == Served.data
    Served.data = b"never asked for again"
    assert pretrained.is_ready(["x"])
    other = dataclasses.replace(entry, url=entry.url.replace("weights", "others"))
    monkeypatch.setattr(pretrained, "find_entry", {"x": other}.__getitem__)
    assert not pretrained.is_ready(["x"]), "it is not what was published"
    assert sorted(path.name for path in weights_dir().iterdir()) == ["weights.safetensors"]
    assert "x is not on this machine, and is not downloaded now" in capsys.readouterr().err


def test_a_page_waits_for_no_server_that_does_not_answer(entry, monkeypatch, capsys):
    monkeypatch.setattr(pretrained, "PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/weights.safetensors"
        monkeypatch.setattr(pretrained, "find_entry", {"x": dataclasses.replace(entry, url=url)}.__getitem__)
        assert not pretrained.is_ready(["x"])
    assert "x is not on this machine" in capsys.readouterr().err
    assert not pretrained.is_ready([])


def test_what_cannot_learn_the_rounding_of_8_bits():
    with pytest.raises(ValueError, match=r"--qat is for widths of MobileNet V1 \(a025, ...\), not for classifiers of"):
        learn_rounding(torch.nn.Conv2d(3, 4, 1), ["a"])
    with pytest.raises(ValueError, match=r"--qat fine-tunes a trained model: give --weights a run"):
        learn_rounding(create_backbone("a010"), [])
