"""Networks of timm and pytorchcv, randomly initialised, give the same logits in ours."""

import argparse
import io
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

from backbone.weights import create_backbone_from, find_entry
from backbone.weights.read import read_weights
from tests.backbone.weights.weight_files import shuffle_norms


def saved(state_dict: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state_dict, buffer, **options)
    return buffer.getvalue()


def assert_same_logits(data: bytes, theirs: torch.nn.Module, resolution: int) -> None:
    model = create_backbone_from(read_weights(data, name="random.pth")).eval()
    x = torch.randn(1, 3, resolution, resolution, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = theirs(x)
        assert expected.std() > 0.1
        torch.testing.assert_close(model(x), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name, alpha", [("w1", 1), ("w3d4", 0.75), ("wd2", 0.5), ("wd4", 0.25)])
def test_pytorchcv(name, alpha):
    provider = pytest.importorskip("pytorchcv.model_provider")
    theirs = shuffle_norms(provider.get_model(f"mobilenet_{name}"), seed=1)
    data = saved(theirs.state_dict())
    assert_same_logits(data, theirs, 224)  # its pool is fixed at 7x7
    weights = read_weights(data, name="random.pth")
    entry = find_entry(f"pytorchcv-a{round(100 * alpha):03d}")
    assert weights.width_mult == entry.width_mult == alpha
    assert (weights.padding, weights.activation, weights.norm_eps) == ("symmetric", "relu", 1e-5)
    assert (entry.padding, entry.activation, entry.norm_eps) == ("symmetric", "relu", 1e-5)
    assert weights.preprocessing == entry.preprocessing


@pytest.mark.parametrize("name", ["mobilenetv1_100", "mobilenetv1_125"])
def test_timm(name):
    timm = pytest.importorskip("timm")
    safetensors = pytest.importorskip("safetensors.torch")
    theirs = shuffle_norms(timm.create_model(name), seed=1)
    data = safetensors.save(theirs.state_dict())
    assert_same_logits(data, theirs, 96)
    weights = read_weights(data, name="model.safetensors")
    entry = find_entry(f"timm-a{name[-3:]}")
    config = theirs.default_cfg
    for ours in (weights, entry):
        assert (ours.padding, ours.activation, ours.norm_eps) == ("symmetric", "relu6", 1e-5)
        assert (ours.preprocessing.mean, ours.preprocessing.std) == (config["mean"], config["std"])
    assert (entry.preprocessing.crop, entry.preprocessing.interpolation) == (
        config["crop_pct"],
        config["interpolation"],
    )
    assert entry.hub_repo == config["hf_hub_id"]


@pytest.fixture(scope="module")
def small():
    """A timm network of width 0.25 and its state dict."""
    timm = pytest.importorskip("timm")
    from timm.models.efficientnet import _gen_mobilenet_v1

    assert timm
    model = shuffle_norms(_gen_mobilenet_v1("mobilenetv1_100", 0.25, num_classes=7), seed=2)
    return model, model.state_dict()


def test_every_way_a_state_dict_is_saved(small):
    model, state_dict = small
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("net.pth", saved(state_dict))
    for data in (
        saved(state_dict),
        saved(state_dict, _use_new_zipfile_serialization=False),
        saved({"state_dict": state_dict, "epoch": 3}),
        saved({f"module.{name}": tensor for name, tensor in state_dict.items()}),
        zipped.getvalue(),
    ):
        assert_same_logits(data, model, 64)


def test_classes_asked_for(small):
    weights = read_weights(saved(small[1]), name="net.pth")
    assert create_backbone_from(weights, num_classes=0)(torch.zeros(2, 3, 32, 32)).shape == (2, 256)
    with pytest.raises(ValueError, match=r"net\.pth: has 7 classes, 37 were asked for; .*reset_classifier\(37\)"):
        create_backbone_from(weights, num_classes=37)


def test_other_networks_are_refused(small):
    timm = pytest.importorskip("timm")
    with_head = timm.create_model("mobilenetv1_100h").state_dict()
    with pytest.raises(ValueError, match=r"^h\.pth: not MobileNet V1: it has 5 tensors more, .* conv_head\.weight$"):
        read_weights(saved(with_head), name="h.pth")
    with pytest.raises(
        ValueError, match=r"^r\.pth: its tensors are not named as in timm .* or pytorchcv .*, but conv1"
    ):
        read_weights(saved(timm.create_model("resnet18").state_dict()), name="r.pth")
    provider = pytest.importorskip("pytorchcv.model_provider")
    without_norms = provider.get_model("mobilenetb_wd4").state_dict()
    with pytest.raises(ValueError, match=r"^b\.pth: not pytorchcv's MobileNet V1: features\.stage1.*bn.* is missing$"):
        read_weights(saved(without_norms), name="b.pth")


def test_what_is_no_state_dict_is_refused(small):
    with pytest.raises(ValueError, match=r"^l\.pth: is no state dict \(tensors by name\), but list$"):
        read_weights(saved([1, 2]), name="l.pth")
    with pytest.raises(ValueError, match=r"^m\.pth: .* contains more than tensors \(.*\), .*$"):
        read_weights(saved(small[0]), name="m.pth")  # a pickled module: code


def test_checkpoints_of_training_scripts(small, tmp_path):
    """timm's train.py, torchvision's references, tutorials, DistributedDataParallel, torch.compile, Lightning."""
    model, state_dict = small
    args = argparse.Namespace(model="mobilenetv1_100", lr=0.1, output=tmp_path, opt_kwargs={}, mean=None)
    wrapped = torch.nn.DataParallel(model).state_dict()
    averaged = torch.optim.swa_utils.AveragedModel(model).state_dict()
    for content in (
        {"epoch": 3, "arch": "mobilenetv1_100", "state_dict": state_dict, "version": 2, "args": args, "metric": 70.1},
        {"model": state_dict, "optimizer": {"state": {}}, "epoch": 1, "args": args},
        {"epoch": 1, "model_state_dict": state_dict, "loss": torch.tensor(0.5)},
        {"state_dict": {f"model.{name}": tensor for name, tensor in state_dict.items()}},
        {"model": {f"_orig_mod.{name}": tensor for name, tensor in state_dict.items()}},
        {f"module._orig_mod.{name}": tensor for name, tensor in state_dict.items()},
        {f"_orig_mod.module.{name}": tensor for name, tensor in state_dict.items()},
        {"net": state_dict, "acc": 91.2, "epoch": 3},
        {"params": {f"net.{name}": tensor for name, tensor in state_dict.items()}},
        {"ema": {f"backbone.{name}": tensor for name, tensor in state_dict.items()}, "weights": {}},
        {"weights": state_dict},
        wrapped,
        averaged,
    ):
        for new in (True, False):
            assert_same_logits(saved(content, _use_new_zipfile_serialization=new), model, 64)


def test_timms_own_checkpoint_is_read_and_the_average_preferred(small, tmp_path):
    """As `timm.models.load_checkpoint` does unless told otherwise."""
    from timm.utils import CheckpointSaver, ModelEmaV3

    model, _ = small
    ema = ModelEmaV3(model)
    shuffle_norms(ema.module, seed=9)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    args = argparse.Namespace(model="mobilenetv1_100", lr=0.1)
    for average, expected in ((None, model), (ema, ema.module)):
        folder = tmp_path / str(average is None)
        folder.mkdir()
        saver = CheckpointSaver(model, optimizer, args=args, model_ema=average, checkpoint_dir=str(folder))
        saver.save_checkpoint(epoch=1, metric=70.0)
        assert_same_logits((folder / "last.pth.tar").read_bytes(), expected.eval(), 64)


def test_files_saved_without_checksums_are_read(small):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        data = saved(small[1])
    finally:
        torch.serialization.set_crc32_options(before)
    assert_same_logits(data, small[0], 64)


def test_what_else_a_checkpoint_holds_is_named(small):
    with pytest.raises(
        ValueError, match=r"^n\.pth: refused: .* more than tensors \(numpy.*scalar\), .*save the state dict alone$"
    ):
        read_weights(saved({"state_dict": small[1], "best": np.float64(1)}), name="n.pth")


def test_integers_are_no_weights(small):
    """Quantised ones lack their scale: they would be taken as large numbers."""
    state_dict = dict(small[1])
    first = next(iter(state_dict))
    state_dict[first] = (100 * state_dict[first]).to(torch.int8)
    for data in (saved(state_dict), safetensors.torch.save(state_dict)):
        with pytest.raises(ValueError, match="no plain tensor of floats, but"):
            read_weights(data, name="x")
