"""What is checked of a run before its first step."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from apps.common.training.optim import make_optimizer
from apps.common.training.run_state import RunState, check_norms
from apps.detection.model.create import create_detector
from backbone import create_backbone
from tests.test_resuming import APPS, make_config


def trains(network: torch.nn.Module, resolution: int) -> bool:
    """Torch's own verdict."""
    try:
        network.train()(torch.zeros(1, 3, resolution, resolution))
    except ValueError as error:
        assert "more than 1 value per channel" in str(error)
        return False
    return True


@pytest.mark.parametrize("resolution", [32, 33, 64])
@pytest.mark.parametrize("kind", ["classifier", "group norm", "ssd", "pyramid"])
def test_one_image_is_refused_where_torch_refuses_it(kind, resolution):
    if kind in ("ssd", "pyramid"):
        network = create_detector("a025", num_classes=2, head=kind, resolution=resolution)
    else:
        network = create_backbone("a025", num_classes=3, norm="group" if kind == "group norm" else "batch")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    try:
        check_norms(network.eval(), resolution)
        accepted = True
    except ValueError as error:
        assert "two images a process" in str(error)
        accepted = False
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert accepted == trains(network, resolution)


@pytest.mark.parametrize("app", APPS)
def test_a_batch_of_one_is_refused_before_a_run_begins(app, tmp_path):
    changes = {"batch_size": 1, "resolution": 32, "steps": 2}
    changes |= {"head": "ssd"} if app == "detection" else {}
    data = APPS[app].draw(tmp_path / "data")
    with pytest.raises(ValueError, match=r"--batch-size gives each process one image.*at 32 pixels"):
        APPS[app].script.train(make_config(app, data, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def a_run(optimizer: str) -> dict[str, Any]:
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    return {"network": network, "optimizer": make_optimizer(optimizer, network, lr=0.1, weight_decay=0.01)}


def saved_run(path: Path, optimizer: str, *, steps: int) -> dict[str, Any]:
    parts = a_run(optimizer)
    for _ in range(steps):
        parts["network"](torch.ones(1, 3)).sum().backward()
        parts["optimizer"].step()
    RunState(parts, metric="AP").save(path)
    return torch.load(path / "last.pt", weights_only=True)


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
def test_what_was_saved_comes_back_whole(tmp_path, optimizer, steps):
    stored = saved_run(tmp_path, optimizer, steps=steps)
    parts = a_run(optimizer)
    RunState(parts, metric="AP", resume=tmp_path)
    again = parts["optimizer"].state_dict()
    assert again["param_groups"] == stored["parts"]["optimizer"]["param_groups"]
    for index, entry in stored["parts"]["optimizer"]["state"].items():
        assert entry.keys() == again["state"][index].keys()
        assert all(value.equal(again["state"][index][name]) for name, value in entry.items() if value is not None)
    assert parts["network"].weight.equal(stored["parts"]["network"]["weight"])


def _moment(stored: dict[str, Any]) -> dict[str, Any]:
    return stored["parts"]["optimizer"]["state"][0]


WRONG_STATES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "shape": (lambda s: _moment(s).update(exp_avg=torch.zeros(5)), "exp_avg is no tensor of shape"),
    "not finite": (lambda s: _moment(s)["exp_avg"].fill_(torch.nan), "exp_avg is not finite"),
    "repeated": (lambda s: _moment(s).update(exp_avg=torch.zeros(1).expand(2**40)), "is no tensor of shape"),
    "one missing": (lambda s: _moment(s).pop("exp_avg"), r"state\.\d is of another optimiser"),
    "weights": (lambda s: s["parts"]["network"]["weight"].fill_(torch.inf), "network.weight is not finite"),
    "group": (lambda s: s["parts"]["optimizer"]["param_groups"][0].update(eps="x"), "eps cannot be 'x'"),
    "step": (lambda s: s["facts"].update(step="7"), "does not say how far the run is"),
    "negative": (lambda s: s["facts"].update(step=-1), "does not say how far the run is"),
    "best": (lambda s: s["facts"].update(best={"step": 0}), "does not say how far the run is"),
    "metric": (lambda s: s["facts"]["best"]["metrics"].update(AP=float("nan")), "does not say how far the run is"),
    "owed": (lambda s: s["facts"].update(owed="yes"), "does not say how far the run is"),
    "no facts": (lambda s: s.pop("facts"), "facts"),
}


@pytest.mark.parametrize("wrong", WRONG_STATES)
def test_a_damaged_state_is_refused_before_anything_changes(tmp_path, wrong):
    stored = saved_run(tmp_path, "adamw", steps=2)
    change, message = WRONG_STATES[wrong]
    change(stored)
    torch.save(stored, tmp_path / "last.pt")
    parts = a_run("adamw")
    before = parts["network"].weight.clone()
    with pytest.raises(ValueError, match=message) as error:
        RunState(parts, metric="AP", resume=tmp_path)
    assert str(error.value).isprintable()
    if wrong not in ("step", "negative", "best", "metric", "owed"):  # facts are looked at last, the run ends anyway
        assert parts["network"].weight.equal(before)


def test_another_optimisers_state_is_refused(tmp_path):
    saved_run(tmp_path, "adamw", steps=1)
    with pytest.raises(ValueError, match="is of another optimiser"):
        RunState(a_run("sgd"), metric="AP", resume=tmp_path)


def test_a_small_state_that_unfolds_to_much_is_refused(tmp_path):
    state = io.BytesIO()
    torch.save({"parts": {}, "facts": {}, "more": torch.zeros(3_000_000)}, state)
    with zipfile.ZipFile(state) as old, zipfile.ZipFile(tmp_path / "last.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ValueError, match="too large"):
        RunState({}, metric="AP", resume=tmp_path)


def test_a_step_and_a_state_that_fail_are_both_named(tmp_path):
    state = RunState(a_run("sgd"), metric="AP")
    state.save(tmp_path)
    (tmp_path / "last.pt").rename(tmp_path / "kept")
    (tmp_path / "last.pt").mkdir()  # over which no file is renamed
    (tmp_path / "last.pt/in it").touch()
    with pytest.raises(ValueError) as raised, state.kept(tmp_path):
        raise ValueError("image 7.jpg is truncated")
    said = str(raised.value)
    assert said.startswith("image 7.jpg is truncated; and the state of step 0 cannot be written to ")
    assert said.endswith(f"go on with --resume {tmp_path}")
