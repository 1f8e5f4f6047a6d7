"""NCNN's folders hold what the network computes, and those of strangers are looked at before NCNN reads them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from apps.common.deploy.agreement import difference
from apps.common.deploy.export import check_format, check_target, default_out
from apps.common.deploy.formats import exported_format
from apps.common.deploy.graph import Graph
from apps.common.deploy.ncnn import NcnnSession, check_param, try_ncnn, write_ncnn
from apps.common.images import Normalisation
from apps.detection.model.create import create_detector
from backbone.mobilenet_v1 import create_backbone
from tests.backbone.weights.weight_files import shuffle_norms

IMAGENET = Normalisation(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
NETS = {
    "a classifier": lambda: create_backbone("a025", num_classes=5),
    "norms that stay": lambda: create_backbone("a013", num_classes=5, norm="group", residual=True, shallow=True),
    "ssd": lambda: create_detector("a025", num_classes=3, resolution=100, head="ssd"),
    "pyramid": lambda: create_detector("a025", num_classes=3, resolution=100, head="pyramid"),
}


def noise(num: int) -> torch.Tensor:
    return torch.randint(0, 256, (num, 3, 100, 100), generator=torch.Generator().manual_seed(0)).byte()


def make_graph(name: str, **options) -> Graph:
    torch.manual_seed(0)
    outputs = ("logits",) if name in list(NETS)[:2] else ("class_logits", "offsets")
    return Graph(shuffle_norms(NETS[name]().eval(), seed=1), outputs, preprocessing=IMAGENET, **options)


@pytest.mark.parametrize("name", NETS)
def test_the_folder_computes_what_torch_does(tmp_path, name):
    ncnn, _ = pytest.importorskip("ncnn"), pytest.importorskip("pnnx")
    graph = make_graph(name, input="float" if name == "norms that stay" else "uint8")
    write_ncnn(tmp_path, graph, resolution=100, metadata={"class_names": ["bléu"], "resolution": 100})
    assert exported_format(tmp_path) == "ncnn" and len(list(tmp_path.iterdir())) == 3
    session = NcnnSession(tmp_path, threads=1, preprocessing=IMAGENET if graph.input == "float" else None)
    reference = graph.reference(noise(2))
    assert difference(reference, session(noise(2))) < 1e-5
    assert json.loads(session.metadata["class_names"]) == ["bléu"]
    try_ncnn(tmp_path)
    if graph.input == "uint8":  # by NCNN's own classes alone
        net = ncnn.Net()
        net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_fp16_packed = False
        assert net.load_param(f"{tmp_path}/model.param") == 0 and net.load_model(f"{tmp_path}/model.bin") == 0
        pixels, extractor = noise(2)[1].permute(1, 2, 0).contiguous().numpy(), net.create_extractor()
        extractor.input("images", ncnn.Mat.from_pixels(pixels, ncnn.Mat.PixelType.PIXEL_RGB, 100, 100))
        found = {output: torch.tensor(extractor.extract(output)[1].numpy())[None] for output in graph.outputs}
        assert difference({output: value[1:] for output, value in reference.items()}, found) < 1e-5


PARAM = """7767517
4 5
Input            in0  0 1 images
Convolution      c    1 1 images 1 0=4 1=3 3=2 4=1 5=1 6=108 9=3 -23310=2,0.0,6.0
Split            s    1 2 1 2 3
InnerProduct     fc   1 1 2 logits 0=5 1=0 2=20
"""
NUM_BYTES = 4 * (1 + 108 + 4 + 1 + 20)


def test_a_file_is_looked_at_before_ncnn_reads_it(tmp_path):
    assert check_param(PARAM, NUM_BYTES) == ["3", "logits"]
    for old, new, said in (
        ("7767517", "7767518", "does not begin as a text file of NCNN"),
        ("4 5", "4 6", "does not begin as a text file of NCNN, or is cut"),
        ("4 5", "4 5\n" * 5000, "is no layer"),
        ("1 1 images 1 ", "1 1 2 1 ", "nothing gives '2'"),
        ("1 2 1 2 3", "1 2 1 2 2", "two layers give '2'"),
        ("1 2 1 2 3", "1 9 1 2 3", "is cut"),
        ("1 2 1 2 3", "-1 2 1 2 3", "is no layer"),
        ("Split ", "Evil ", "layer 'Evil' is not supported"),
        ("6=108", "6=999999999", f"its weights need 4,000,000,100 bytes, model.bin has {NUM_BYTES}"),
        ("6=108", "6=-108", "parameter 6 is '-108', not a count"),
        ("6=108", "6=108 8=1", "weights in 8 bits are not supported"),
        ("9=3", "9=;", "parameter '9=;' has no value that is a number"),
        ("=2,0.0", "=200000000,0.0", "is not as long as it says"),
    ):
        with pytest.raises(ValueError) as stop:
            check_param(PARAM.replace(old, new), NUM_BYTES)
        assert said in str(stop.value) and len(str(stop.value)) < 200
    for missing in ("model.bin", "model.param"):
        (tmp_path / "model.param").write_text(PARAM)
        (tmp_path / missing).unlink(missing_ok=True)
        with pytest.raises(ValueError, match=r"cannot be opened as ncnn: model.param or model.bin is missing"):
            try_ncnn(tmp_path)


def test_what_crashes_ncnn_is_one_line(tmp_path, monkeypatch):
    """Its own process divides by zero, reads past the weights, or never comes back."""
    pytest.importorskip("ncnn")
    (tmp_path / "metadata.json").write_text(json.dumps({"resolution": "64"}))
    (tmp_path / "model.bin").write_bytes(bytes(NUM_BYTES))
    for old, new in (("3=2", "3=0"), ("0=4 1=3", "0=4 1=3000"), ("2=20", "2=20 0=100000000")):
        (tmp_path / "model.param").write_text(PARAM.replace(old, new))
        with pytest.raises(ValueError, match=r"cannot be computed by NCNN: damaged, or no file of export.py"):
            try_ncnn(tmp_path)
    (tmp_path / "metadata.json").unlink()  # what it is, is asked later: here it is opened, but not by this process
    tried = []
    monkeypatch.setattr("apps.common.deploy.ncnn.try_elsewhere", lambda script, *given: not tried.append(given))
    try_ncnn(tmp_path)
    assert tried == [(str(tmp_path), "64")]


class Odd(nn.Module):
    def forward(self, x):
        return torch.erfinv(x.mean((2, 3)))


def test_what_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    for asked in ({"int8": True}, {"int8": False, "dynamic_size": True}, {"int8": False, "suppressed": True}):
        with pytest.raises(ValueError, match="--format ncnn is without --int8, --dynamic-size, --outputs detections: "):
            check_format("ncnn", **asked)
    out = default_out(tmp_path / "best", "a", format="ncnn", int8=False)
    assert out == tmp_path / "export/a_ncnn"
    out.mkdir(parents=True)
    (out / "model.param").touch()
    check_target(out, "ncnn")
    (out / "mine.txt").touch()
    with pytest.raises(ValueError, match="must be a new folder, or one that an export wrote, for --format ncnn"):
        check_target(out, "ncnn")
    if sys.modules.get("pnnx") or pytest.importorskip("pnnx", reason="needs pnnx: pip install -e '.[ncnn]'"):
        graph, room = Graph(Odd(), ("logits",), preprocessing=IMAGENET), tmp_path / "room"
        room.mkdir()
        with pytest.raises(ValueError, match=r"cannot be exported to NCNN: layer '.*erfinv' is not supported$"):
            write_ncnn(room, graph, resolution=64, metadata={})
        with monkeypatch.context() as patch:
            places = []
            patch.setattr(subprocess, "run", lambda command, cwd, **options: places.append(Path(cwd)))
            patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4096))
            with pytest.raises(OSError, match="No space left on device"):  # pnnx says nothing of it
                write_ncnn(room, graph, resolution=64, metadata={})
            assert places[0].parent == room  # on the disk of the file, and removed with it
        monkeypatch.setitem(sys.modules, "pnnx", None)
        with pytest.raises(ValueError, match=r"pnnx cannot be imported here: pip install -e '\.\[ncnn\]'"):
            write_ncnn(room, graph, resolution=64, metadata={})
        assert list(Path(room).iterdir()) == []
