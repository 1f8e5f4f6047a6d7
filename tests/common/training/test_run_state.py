"""What is checked of a run before its first step."""

import pytest
import torch

from apps.common.training.run_state import check_norms
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
