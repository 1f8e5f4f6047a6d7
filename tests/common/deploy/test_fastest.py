"""Which runtime "auto" chooses, with runtimes that only pretend."""

import json
from pathlib import Path

import pytest
import torch

from apps.common.deploy import fastest as fastest_module
from apps.common.deploy import runtime as runtime_module
from apps.common.deploy.agreement import check_session
from apps.common.deploy.packages import need
from apps.common.deploy.runtime import start_session
from apps.common.deploy.sessions import TorchSession
from apps.common.images import Normalisation

SIDE = 48
LOGITS = torch.arange(5.0)


class FakeGraph:
    """What torch computes is always the same."""

    def reference(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": LOGITS}


class Fake:
    """A session that computes what torch does, or another number of times it, and takes its time of a fake clock."""

    bf16 = False
    now = 0.0

    def __init__(
        self, name: str, *, seconds: float = 0.001, factor: float = 1.0, expected: torch.Tensor = LOGITS
    ) -> None:
        self.name, self.seconds, self.logits = name, seconds, expected * factor
        self.calls = 0

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        assert images.shape == (1, 3, SIDE, SIDE) and images.dtype == torch.uint8
        self.calls += 1
        Fake.now += self.seconds
        return {"logits": self.logits}


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Makes fakes what is installed and gives the list of those that are opened; the clock is theirs."""
    opened: list[str] = []

    def install(**fakes: Fake) -> list[str]:
        def load(path: Path, runtime: str, **options) -> Fake:
            opened.append(runtime)
            return fakes[runtime]

        monkeypatch.setattr(runtime_module, "load_session", load)
        opened.clear()
        return opened

    monkeypatch.delenv("MOBILENET_APPS_RUNTIME", raising=False)
    monkeypatch.setattr(runtime_module.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(runtime_module, "kept_onnx", lambda *args, **options: tmp_path / "a.onnx")
    monkeypatch.setattr(fastest_module, "perf_counter", lambda: Fake.now)
    monkeypatch.setattr(Fake, "now", 0.0)
    return install


class FakeModel:
    """A model whose network is never computed."""

    resolution = SIDE
    network = torch.nn.Linear(1, 1)
    graph = FakeGraph

    def torch_session(self) -> TorchSession:
        return TorchSession(self.network, ("logits",), Normalisation())


def start(runtime: str = "auto", **options):
    return start_session(FakeModel(), runtime, **options)


def test_a_runtime_that_computes_something_else_is_not_used(installed, tmp_path, capsys):
    check_session(Fake("right"), FakeGraph(), resolution=SIDE)
    for factor in (1.1, float("nan")):
        with pytest.raises(ValueError, match="wrong computes something else than torch"):
            check_session(Fake("wrong", factor=factor), FakeGraph(), resolution=SIDE)
    right = Fake("right", seconds=1.0)
    for _ in range(2):
        installed(openvino=Fake("wrong", factor=1.1), onnx=right)
        assert start() is right
        assert capsys.readouterr().err.count("\n") == 1  # at each start
    assert list(tmp_path.iterdir()) == []  # nothing was compared, nothing is remembered


@pytest.mark.parametrize("fast", ["onnx", "openvino"])
def test_auto_is_the_fastest_and_remembered(installed, tmp_path, fast, capsys):
    fakes = {name: Fake(name, seconds=0.002 if name == fast else 0.005) for name in ("onnx", "openvino")}
    opened = installed(**fakes)
    assert start() is fakes[fast]
    assert sorted(opened) == ["onnx", "openvino"]
    assert Fake.now == pytest.approx(0.5, abs=0.05)  # a quarter of a second for each
    assert fakes["onnx"].calls == fakes["openvino"].calls  # in turn
    opened.clear()
    assert start() is fakes[fast]
    assert opened == [fast]
    fakes["onnx"].seconds = fakes["openvino"].seconds = 1.0
    opened.clear()
    assert start("openvino") is fakes["openvino"] and opened == ["openvino"]  # the choice is that of "auto" alone
    assert [path.name for path in tmp_path.iterdir()] == ["a.fastest.json"]
    assert capsys.readouterr() == ("", "")


def test_the_fastest_is_measured_again_when_something_changes(installed, monkeypatch):
    opened = installed(onnx=Fake("onnx", seconds=0.002), openvino=Fake("openvino", seconds=0.005))
    assert start(threads=torch.get_num_threads()).name == "onnx"

    def measured_again(**options) -> bool:
        opened.clear()
        start(**options)
        return len(opened) == 2

    assert not measured_again()
    before = torch.get_num_threads()
    try:
        assert measured_again(threads=before + 1)
    finally:
        torch.set_num_threads(before)
    monkeypatch.setattr("apps.common.deploy.sessions.choose_precision", lambda device, amp: "bf16")
    assert measured_again(precision="auto") and not measured_again(precision="float32")
    monkeypatch.setattr(fastest_module, "processor", lambda: "a new one")
    assert measured_again() and not measured_again()
    monkeypatch.setattr(fastest_module.importlib.metadata, "version", lambda module: "99")
    assert measured_again() and not measured_again()
    monkeypatch.undo()


def test_a_choice_that_cannot_be_kept_or_read_does_no_harm(installed, tmp_path, monkeypatch, capsys):
    opened = installed(onnx=Fake("onnx", seconds=0.002), openvino=Fake("openvino", seconds=0.005))
    choices = tmp_path / "a.fastest.json"
    for damaged in ("", "[]", '{"a": ', "\x00"):
        choices.write_text(damaged)
        opened.clear()
        assert start().name == "onnx" and len(opened) == 2
        assert "onnx" in json.loads(choices.read_text()).values()  # repaired
    choices.write_text(choices.read_text().replace('"onnx"', '"tvm"'))
    assert start().name == "onnx"
    monkeypatch.setattr(fastest_module, "written_whole", lambda path: (_ for _ in ()).throw(PermissionError()))
    choices.unlink()
    for _ in range(2):
        opened.clear()
        assert start().name == "onnx" and len(opened) == 2
    assert capsys.readouterr() == ("", "")


def test_a_remembered_runtime_that_broke_is_passed_over(installed, capsys):
    installed(onnx=Fake("onnx", seconds=0.002), openvino=Fake("openvino", seconds=0.005))
    start()
    installed(onnx=Fake("onnx", factor=2.0), openvino=Fake("openvino"))
    assert start().name == "openvino"
    assert capsys.readouterr().err.startswith("onnxruntime cannot be used (onnx computes something else than torch")


def test_a_network_that_cannot_be_exported_is_left_to_torch(installed, monkeypatch, capsys):
    monkeypatch.setattr(runtime_module, "kept_onnx", lambda *args, **options: need("no_such_module"))
    installed()
    assert isinstance(start(), TorchSession)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("the network cannot be exported (no_such_module cannot be imported") and "torch" in line
