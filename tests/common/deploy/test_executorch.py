"""ExecuTorch files hold what the network computes and what a user of the file must know."""

import json
import sys

import pytest
import torch

from apps.common.deploy.agreement import difference
from apps.common.deploy.executorch import ExecutorchSession, need_executorch, write_executorch
from apps.common.deploy.export import check_format, default_out
from apps.common.deploy.graph import Graph
from apps.common.images import Normalisation
from backbone.mobilenet_v1 import create_backbone
from tests.backbone.weights.weight_files import shuffle_norms

SIDE = 48


def need() -> None:
    pytest.importorskip("executorch", reason="needs executorch: python -m pip install -e '.[phone]' -c constraints.txt")


def test_the_file_computes_what_torch_does(tmp_path):
    need()
    torch.manual_seed(0)
    network = create_backbone("a025", num_classes=5).eval().to(memory_format=torch.channels_last)
    graph = Graph(network, ("logits",), preprocessing=Normalisation())
    path = tmp_path / "a net.pte"
    write_executorch(path, graph, resolution=SIDE, metadata={"class_names": ["bléu", "b"], "outputs": ["logits"]})
    session = ExecutorchSession(path, preprocessing=None)
    images = torch.randint(0, 256, (3, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).byte()
    assert difference(graph.reference(images), session(images)) < 1e-5
    assert json.loads(session.metadata["class_names"]) == ["bléu", "b"]


def test_in_8_bits_it_computes_nearly_that(tmp_path):
    need()
    torch.manual_seed(0)
    network = shuffle_norms(create_backbone("a025", num_classes=5), seed=1)
    graph = Graph(network, ("logits",), preprocessing=Normalisation())
    images = torch.randint(0, 256, (4, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).byte()
    path, num_floats = tmp_path / "a.pte", sum(tensor.numel() for tensor in graph.state_dict().values())
    write_executorch(path, graph, resolution=SIDE, metadata={"outputs": ["logits"]}, calibration=lambda: images)
    assert path.stat().st_size < 0.45 * 4 * num_floats
    expected, given = graph.reference(images)["logits"], ExecutorchSession(path, preprocessing=None)(images)["logits"]
    assert (given - expected).square().mean() < 0.03 * expected.square().mean()


def test_where_it_is_missing_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "executorch.exir", None)
    with pytest.raises(ValueError, match=r"executorch cannot be imported here .*: pip install -e '\.\[phone\]'"):
        need_executorch()


def test_what_these_files_do_not_have_is_refused(tmp_path):
    for flags, named in (
        ({"int8": False, "dynamic_size": True}, "--dynamic-size"),
        ({"int8": False, "suppressed": True}, "--outputs detections"),
    ):
        check_format("onnx", **flags)
        with pytest.raises(ValueError, match=f"--format executorch is without .*: {named} is for onnx"):
            check_format("executorch", **flags)
    assert default_out(tmp_path / "best", "a", format="executorch", int8=False) == tmp_path / "export" / "a.pte"
