import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from apps.common.deploy import runtime as runtime_module
from apps.common.deploy.agreement import BF16_FACTOR, check_session, difference, random_image, rms_difference
from apps.common.deploy.export import check_num_photos, check_target
from apps.common.deploy.formats import quantize, write_onnx
from apps.common.deploy.graph import Graph, fold_norms
from apps.common.deploy.packages import need
from apps.common.deploy.runtime import kept_onnx, start_session
from apps.common.deploy.sessions import MODULES, Session, TorchSession, device_for, load_session
from apps.common.device import choose_precision
from apps.common.images import Normalisation
from backbone.mobilenet_v1 import create_backbone
from tests.common.deploy.test_fastest import Fake
from tests.common.exported_files import need_exporter, need_modules

CPU = torch.device("cpu")
SIDE = 48
PREPROCESSING = Normalisation(mean=(120.0, 110.0, 100.0), std=(60.0, 58.0, 57.0))


def make_network(**options) -> nn.Module:
    """Random weights, and norms that have seen data."""
    torch.manual_seed(0)
    network = create_backbone("a025", num_classes=5, shallow=True, **options).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return network


def make_graph() -> Graph:
    return Graph(make_network(), ("logits",), preprocessing=PREPROCESSING)


class Model:
    """As little of a detector, classifier or tagger as a session is made of."""

    resolution = SIDE

    def __init__(self) -> None:
        self.network = make_network()
        self.session: Session = self.torch_session()

    def graph(self) -> Graph:
        return Graph(self.network, ("logits",), preprocessing=PREPROCESSING)

    def torch_session(self) -> TorchSession:
        return TorchSession(self.network, ("logits",), PREPROCESSING)


def in_torch(session: Session) -> bool:
    return isinstance(session, TorchSession)


def make_images(number: int, height: int = SIDE, width: int = SIDE) -> torch.Tensor:
    rng = np.random.default_rng(number)
    return torch.from_numpy(rng.integers(0, 256, (number, height, width, 3), dtype=np.uint8)).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """A cache in which the network was exported already."""
    need_exporter()
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOBILENET_APPS_CACHE", str(cache))
        kept_onnx(make_graph(), resolution=SIDE)
    return cache


@pytest.fixture
def cache(exported, tmp_path, monkeypatch) -> Path:
    """A copy of it, in use."""
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(exported, tmp_path / "cache")


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("sides", [(48, 48), (33, 50), (65, 32)])
def test_folded_networks_compute_the_same(norm, padding, sides):
    network = make_network(norm=norm, padding=padding)
    images = torch.randn(2, 3, *sides)
    folded = fold_norms(network)
    with torch.inference_mode():
        assert (folded(images) - network(images)).abs().max() < 1e-5
    assert any(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == (norm == "batch")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert (make_network(norm=norm, padding=padding)(images) - network(images)).abs().max() == 0  # left as it was


def test_a_graph_takes_pixels():
    """(pixel - mean) / std by hand, then the network."""
    images = make_images(2)
    by_hand = (images.double() - torch.tensor(PREPROCESSING.mean)[:, None, None]) / torch.tensor(PREPROCESSING.std)[
        :, None, None
    ]
    with torch.inference_mode():
        expected = make_network()(by_hand.float())
    assert (make_graph().reference(images)["logits"] - expected).abs().max() < 1e-5
    floats = Graph(make_network(), ("logits",), preprocessing=PREPROCESSING, input="float")
    assert (floats.reference(images)["logits"] - expected).abs().max() < 1e-5


def test_the_hash_is_of_all_that_matters():
    def changed(**options) -> str:
        return Graph(make_network(**options), ("logits",), preprocessing=PREPROCESSING).content_hash()

    graph = make_graph()
    hashes = {graph.content_hash(), changed(padding="symmetric"), changed(activation="relu"), changed(norm_eps=1e-5)}
    hashes.add(Graph(make_network(), ("logits",), preprocessing=Normalisation()).content_hash())
    assert len(hashes) == 5
    assert make_graph().content_hash() == graph.content_hash()
    graph.network.get_parameter("stem.bias")[0] += 1e-3
    assert graph.content_hash() not in hashes


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_runtimes_compute_what_torch_does(cache, runtime, capsys):
    need_modules(MODULES[runtime])
    session = start_session(Model(), runtime, threads=1, precision="float32")
    assert not session.name.endswith("bf16")
    for number in (1, 3):
        images = make_images(number)
        with torch.inference_mode():
            expected = make_network()(PREPROCESSING(images))
        logits = session(images)["logits"]
        assert logits.shape == (number, 5) and logits.dtype == torch.float32
        assert (logits - expected).abs().max() < 1e-4
    assert MODULES[runtime] in session.name.lower()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_many_images_at_once_give_what_each_gives_alone(cache, runtime):
    need_modules(MODULES[runtime])
    session = load_session(next(cache.glob("runtime/*.onnx")), runtime, threads=2)
    images = make_images(7)
    alone = torch.cat([session(image)["logits"] for image in images.split(1)])
    with ThreadPoolExecutor(3) as pool:  # several callers, as predict.py and the pages are
        for found in pool.map(session, [images] * 6):
            assert torch.equal(found["logits"], alone)
    assert torch.equal(session(images[:1])["logits"], alone[:1])


def test_openvino_reports_to_nobody(tmp_path):
    need_modules("openvino")
    code = """
import sys
from apps.common.deploy.packages import need
need("openvino")
import openvino.tools.ovc
print(type(openvino.tools.ovc.telemetry).__module__, sys.modules["openvino_telemetry"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "None"], done.stderr
    assert list(tmp_path.iterdir()) == []  # nor is there a client's number


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a fault of signals' stacks, seen on Linux")
def test_a_signal_after_openvino_is_handled(cache):
    """Two sessions that end in the order in which they began; a debugger has given signals a stack of their own."""
    need_modules("openvino")
    (file,) = cache.rglob("*.onnx")
    code = f"""
import faulthandler, signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from apps.common.deploy.sessions import load_session
faulthandler.enable()
first, second = (load_session(Path({str(file)!r}), "openvino", threads=1) for _ in range(2))
del first
del second
signal.signal(signal.SIGTERM, lambda number, frame: print(number))
signal.raise_signal(signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{int(signal.SIGTERM)}\n"), done.stderr


@pytest.mark.parametrize("runtime", ["auto", "onnx", "openvino"])
def test_a_broken_runtime_falls_back_to_torch_with_one_line(tmp_path, monkeypatch, capsys, runtime):
    def broken(*args, **options):
        raise RuntimeError("illegal\ninstruction")

    monkeypatch.delenv("MOBILENET_APPS_RUNTIME", raising=False)
    monkeypatch.setattr(runtime_module.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(runtime_module, "kept_onnx", lambda *args, **options: tmp_path)
    monkeypatch.setattr(runtime_module, "load_session", broken)
    assert in_torch(start_session(Model(), runtime))
    (line,) = capsys.readouterr().err.splitlines()
    for module in ("openvino", "onnxruntime") if runtime == "auto" else (MODULES[runtime],):
        assert f"{module} cannot be used (illegal instruction)" in line
    assert line.endswith(f"torch {torch.__version__.split('+')[0]} on cpu computes")


def test_bfloat16_is_used_where_allowed_and_judged_by_what_it_costs(cache, monkeypatch):
    need_modules("openvino")
    monkeypatch.setattr("apps.common.deploy.sessions.choose_precision", lambda device, amp: "none")
    assert not start_session(Model(), "openvino", threads=1, precision="auto").name.endswith("bf16")
    monkeypatch.undo()
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(cache))
    if choose_precision(CPU, "auto") != "bf16":
        pytest.skip("this processor does not multiply in bfloat16")
    session = start_session(Model(), "openvino", threads=1, precision="auto")
    assert session.name.startswith("OpenVINO") and session.name.endswith(", bf16")
    image = random_image(SIDE)
    far = rms_difference(make_graph().reference(image), session(image))
    assert 1e-4 < far < 0.05


def test_what_bfloat16_may_cost(monkeypatch):
    graph = make_graph()
    image = random_image(SIDE)
    monkeypatch.setattr("apps.common.deploy.agreement.random_image", lambda side: image)
    reference = graph.reference(image)
    with torch.autocast("cpu", torch.bfloat16):
        cost = rms_difference(reference, graph.reference(image))
    allowed = BF16_FACTOR * max(2**-8, cost)
    assert allowed < 0.08

    def off(factor: float) -> Fake:
        return Fake("off", factor=factor, expected=reference["logits"])

    check_session(off(1 + 0.9 * allowed), graph, resolution=SIDE, bf16=True)
    for factor in (1 + 1.1 * allowed, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"off computes something else than torch, by .*, allowed is 0\.0"):
            check_session(off(factor), graph, resolution=SIDE, bf16=True)
    with pytest.raises(ValueError, match="off computes something else"):
        check_session(off(1 + 0.9 * allowed), graph, resolution=SIDE)  # float32 is exact
    one = {"a": torch.tensor([3.0, -4.0])}
    assert rms_difference(one, {"a": torch.tensor([3.0, -3.0])}) == pytest.approx(0.2)  # 1 over 5
    assert rms_difference(one, {"a": torch.zeros(1)}) == float("inf")


def test_a_missing_runtime(monkeypatch, capsys):
    monkeypatch.delenv("MOBILENET_APPS_RUNTIME", raising=False)
    monkeypatch.setattr(runtime_module.importlib.util, "find_spec", lambda name: None)
    assert in_torch(start_session(Model(), "auto"))
    assert capsys.readouterr() == ("", "")
    assert in_torch(start_session(Model(), "openvino"))
    assert capsys.readouterr().err.startswith("openvino is not installed (pip install")
    with pytest.raises(ValueError, match=r"no_such_module cannot be imported here: pip install -e '.\[fast\]'"):
        need("json", "no_such_module")


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU")
def test_torch_can_compile(capsys):
    session = start_session(Model(), "torch-compile")
    assert session.name.startswith("torch.compile")
    assert "cannot be used" not in capsys.readouterr().err
    images = make_images(2)
    assert difference(make_graph().reference(images), session(images)) < 1e-5


def test_where_torch_cannot_compile_it_computes_as_it_is(monkeypatch, capsys):
    def fail(graph):
        raise RuntimeError("no compiler is found\nand many lines more")

    monkeypatch.setattr(torch, "compile", lambda graph: fail)
    assert in_torch(start_session(Model(), "torch-compile"))
    assert capsys.readouterr().err.startswith("torch.compile cannot be used (no compiler is found): torch ")


def test_torch_computes_what_the_network_does_on_images_of_any_size():
    model = Model()
    for sides in ((SIDE, SIDE), (33, 50)):
        with torch.inference_mode():
            expected = model.network(PREPROCESSING(make_images(2, *sides)))
        (logits,) = model.torch_session()(make_images(2, *sides)).values()
        assert torch.equal(logits, expected)
    assert model.torch_session().name == f"torch {torch.__version__.split('+')[0]} on cpu"


def test_which_runtime(monkeypatch):
    model = Model()
    monkeypatch.setattr(model, "graph", lambda: pytest.fail("nothing is to be exported"))
    assert in_torch(start_session(model, "torch"))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(TorchSession, "device", torch.device("cuda"))
        assert in_torch(start_session(model, "auto"))
    monkeypatch.setenv("MOBILENET_APPS_RUNTIME", "torch")
    assert in_torch(start_session(model, "auto"))
    monkeypatch.setenv("MOBILENET_APPS_RUNTIME", "fast")
    with pytest.raises(ValueError, match="MOBILENET_APPS_RUNTIME must be one of auto, torch, torch-compile, onnx"):
        start_session(model, "auto")
    with pytest.raises(ValueError, match="threads must be 1 or more, got 0"):
        start_session(model, "torch", threads=0)
    assert device_for("openvino", "auto") == CPU
    with pytest.raises(ValueError, match=r"runtime must be one of auto, torch, .*, openvino, got 'tvm'"):
        device_for("tvm", "auto")
    monkeypatch.setattr("apps.common.deploy.sessions.choose_device", torch.device)  # as if there were a GPU
    with pytest.raises(ValueError, match="runtime onnx computes on the CPU, --device is cuda"):
        device_for("onnx", "cuda")


def test_threads_are_set_for_torch_too():
    before = torch.get_num_threads()
    try:
        start_session(Model(), "torch", threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_any_size_and_the_metadata(tmp_path):
    need_exporter()
    graph, path = make_graph(), tmp_path / "any size.onnx"
    write_onnx(path, graph, resolution=SIDE, metadata={"names": ["bléu", "b"], "app": "x"}, dynamic_size=True)
    assert [p.name for p in tmp_path.iterdir()] == ["any size.onnx"]  # the weights are in it
    session = load_session(path, "onnx", threads=1)
    assert session.metadata["app"] == "x" and json.loads(session.metadata["names"]) == ["bléu", "b"]
    for sides in ((32, 32), (65, 50)):
        images = make_images(2, *sides)
        assert difference(graph.reference(images), session(images)) < 1e-4


def test_differences():
    one = {"a": torch.tensor([1.0, -20.0]), "b": torch.tensor([0.5])}
    assert difference(one, one) == 0
    assert difference(one, {**one, "a": torch.tensor([1.0, -19.0])}) == pytest.approx(0.05)  # relative to 20
    assert difference(one, {**one, "b": torch.tensor([0.4])}) == pytest.approx(0.1)  # to 1
    assert difference(one, {**one, "b": torch.tensor([float("nan")])}) > 1e30
    assert difference(one, {**one, "b": torch.zeros(2)}) == float("inf")


def test_the_number_of_photos_is_checked():
    with pytest.raises(ValueError, match="--num-photos must be 1 or more, got 0"):
        check_num_photos(0)


def test_a_failed_quantisation_leaves_nothing(exported, tmp_path, monkeypatch):
    quantization = pytest.importorskip("onnxruntime.quantization")
    path = Path(shutil.copy(next(exported.rglob("*.onnx")), tmp_path / "a.onnx"))
    monkeypatch.setattr(quantization, "quantize_static", lambda *args, **options: need("no_such_module"))
    with pytest.raises(ValueError, match="no_such_module"):
        quantize(path, tmp_path / "int8.onnx", [])
    assert list(tmp_path.iterdir()) == [path]


def test_where_an_export_may_go(tmp_path):
    check_target(tmp_path / "a.onnx", "onnx")
    check_target(tmp_path / "new", "openvino")
    with pytest.raises(ValueError, match=r"must be a file that ends in \.onnx"):
        check_target(tmp_path / "a.bin", "onnx")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(ValueError, match="must be a new folder, or one that an export wrote"):
        check_target(tmp_path / "mine", "openvino")
