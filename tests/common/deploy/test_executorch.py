"""ExecuTorch files hold what the network computes and what a user of the file must know."""

import json
import sys

import pytest
import torch

from apps.common.deploy import exported, packages
from apps.common.deploy.agreement import difference
from apps.common.deploy.executorch import ExecutorchSession, need_executorch, write_executorch
from apps.common.deploy.export import check_format, default_out
from apps.common.deploy.exported import TRIALS, load_exported
from apps.common.deploy.formats import read_texts
from apps.common.deploy.graph import Graph
from apps.common.deploy.packages import try_elsewhere
from apps.common.images import Normalisation
from apps.detection.model.create import create_detector
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
    with pytest.raises(ValueError, match=r"does not say what it is: its metadata lacks app, backbone, "):
        load_exported(path, app="finegrained", known={("logits",): ()})


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


@pytest.mark.parametrize("head", ["ssd", "pyramid"])
def test_detectors_in_8_bits_are_loaded(tmp_path, head):
    """A pyramid's was not: XNNPACK adds no border to what comes from 8 bits."""
    need()
    torch.manual_seed(0)
    network = shuffle_norms(create_detector("a025", num_classes=3, resolution=64, head=head), seed=1).eval()
    graph = Graph(network, ("class_logits", "offsets"), preprocessing=Normalisation())
    images = torch.randint(0, 256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(0)).byte()
    path, about = tmp_path / "a.pte", {"outputs": ["class_logits", "offsets"]}
    write_executorch(path, graph, resolution=64, metadata=about, calibration=lambda: images)
    given, expected = ExecutorchSession(path, preprocessing=None)(images), graph.reference(images)
    assert not head == "pyramid" or not given["class_logits"][..., 0].any()
    for name, values in expected.items():
        assert (given[name] - values).square().mean() < 0.05 * values.square().mean(), name


def test_what_ends_its_process_is_one_line(tmp_path):
    """ExecuTorch prints a damaged file's letters, and whatever is not UTF-8 in them ends the process."""
    need()
    path = tmp_path / "a.pte"
    path.write_bytes(b"\x10\0\0\0" + b"\xff" * 100)
    with pytest.raises(ValueError, match=r"a\.pte cannot be computed by ExecuTorch: damaged, or no file of export"):
        load_exported(path, app="finegrained", known={})


def test_a_file_is_tried_before_it_is_opened_here(tmp_path, monkeypatch):
    monkeypatch.setattr(exported, "need_runtime", lambda format: None)
    monkeypatch.setitem(TRIALS, "executorch", lambda path: pytest.fail(f"{path.name} is tried"))
    with pytest.raises(ValueError, match=r"nothing\.pte does not exist"):
        load_exported(tmp_path / "nothing.pte", app="finegrained", known={})
    (tmp_path / "a.pte").touch()
    with pytest.raises(pytest.fail.Exception, match=r"a\.pte is tried"):
        load_exported(tmp_path / "a.pte", app="finegrained", known={})


def test_another_process_may_crash_hang_and_ask_for_too_much(monkeypatch):
    assert try_elsewhere("import sys; assert sys.argv[1:] == ['a', 'b']", "a", "b")
    for script in ("import os; os.abort()", "raise SystemExit(1)"):
        assert not try_elsewhere(script)
    if sys.platform == "linux":
        assert not try_elsewhere("bytearray(5 << 30)")
    monkeypatch.setattr(packages, "TRIAL_SECONDS", 0.2)
    assert not try_elsewhere("import time; time.sleep(60)")


def test_what_is_no_text_in_the_metadata_is_left_out():
    assert read_texts(b'{"a": "b", "c": 5, "d": ["e"]}') == {"a": "b"}
    for damaged in (b"", b"[1]", b"\xff", b"[" * 100_000, b"5"):
        assert read_texts(damaged) == {}


def test_where_it_is_missing_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "executorch.exir", None)
    with pytest.raises(ValueError, match=r"executorch cannot be imported here .*: pip install -e '\.\[phone\]'"):
        need_executorch()


def test_what_these_files_do_not_have_is_refused(tmp_path):
    for flags, named in (
        ({"int8": False, "dynamic_size": True}, "--dynamic-size is for onnx, openvino$"),
        ({"int8": False, "suppressed": True}, "--outputs detections is for onnx, openvino, tflite, web$"),
    ):
        check_format("onnx", **flags)
        with pytest.raises(ValueError, match=f"--format executorch is without .*: {named}"):
            check_format("executorch", **flags)
    assert default_out(tmp_path / "best", "a", format="executorch", int8=False) == tmp_path / "export" / "a.pte"
