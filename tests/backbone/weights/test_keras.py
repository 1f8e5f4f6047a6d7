"""Keras files in both layouts give what Keras computes, with or without the classifier."""

import io
import zipfile

import numpy as np
import pytest
import torch

from backbone.weights import create_backbone_from
from backbone.weights.read import read_weights
from tests.backbone.weights.weight_files import keras_layers, keras_logits, write_keras_new, write_keras_old

pytest.importorskip("h5py")


def zipped(data: bytes) -> bytes:
    """A `.keras` archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", data)
    return buffer.getvalue()


WRITERS = {
    "old": write_keras_old,
    "old, whole model": lambda layers: write_keras_old(layers, group="model_weights/"),
    "new": write_keras_new,
    "new, without layer names": lambda layers: write_keras_new(layers, names=False),
    "new, nested": lambda layers: write_keras_new(layers, prefix="layers/functional/"),
    "new, .keras": lambda layers: zipped(write_keras_new(layers)),
}


@pytest.mark.parametrize("alpha, resolution", [(0.25, 64), (0.5, 96)])
@pytest.mark.parametrize("layout", WRITERS)
def test_same_logits_as_keras(layout, alpha, resolution):
    layers = keras_layers(alpha, num_classes=10, seed=1)
    x = np.random.default_rng(2).uniform(-1, 1, (2, resolution, resolution, 3)).astype(np.float32)
    weights = read_weights(WRITERS[layout](layers), name="random.h5")
    model = create_backbone_from(weights).eval()
    with torch.inference_mode():
        ours = model(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    expected = keras_logits(layers, x)
    assert expected.std() > 0.1
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    assert (weights.width_mult, weights.num_classes, weights.class_list) == (alpha, 10, None)
    assert (weights.padding, weights.activation, weights.norm_eps) == ("same", "relu6", 1e-3)
    assert weights.preprocessing.input_range == (-1, 1)


@pytest.mark.parametrize("write", [write_keras_old, write_keras_new])
def test_without_classifier(write):
    weights = read_weights(write(keras_layers(0.25, num_classes=0, seed=1)), name="no_top.h5")
    assert weights.num_classes == 0
    assert create_backbone_from(weights).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 256)


def test_1001_classes_lose_the_background():
    layers = keras_layers(0.25, num_classes=1001, seed=1)
    weights = read_weights(write_keras_old(layers), name="1001.h5")
    assert (weights.num_classes, weights.class_list) == (1000, "imagenet")
    expected = layers["conv_preds"]["kernel"][0, 0].T[1:]
    np.testing.assert_array_equal(weights.state_dict["classifier.weight"].numpy(), expected)


def test_keras_below_alpha_025_has_no_least_width():
    weights = read_weights(write_keras_old(keras_layers(0.1, num_classes=5, seed=1)), name="narrow.h5")
    assert weights.backbone == "a010" and weights.min_channels == 1
    create_backbone_from(weights)


def test_another_network_is_refused():
    layers = keras_layers(0.25, num_classes=5, seed=1)
    del layers["conv_dw_7"]
    with pytest.raises(ValueError, match=r"^other\.h5: not a Keras MobileNet V1: layer conv_dw_7 has no kernel$"):
        read_weights(write_keras_old(layers), name="other.h5")


def test_a_layer_that_does_not_fit_is_refused_with_both_numbers():
    layers = keras_layers(0.25, num_classes=5, seed=1)
    layers["conv_pw_3"]["kernel"] = np.zeros((1, 1, 32, 40), np.float32)
    with pytest.raises(ValueError, match=r"blocks\.conv3\.pointwise has 40 output channels; width 0\.25, .* has 32"):
        read_weights(write_keras_old(layers), name="odd.h5")
    layers = keras_layers(0.25, num_classes=5, seed=1)
    layers["conv_dw_3"]["depthwise_kernel"] = np.zeros((5, 5, 32, 1), np.float32)
    with pytest.raises(ValueError, match=r"has shape \(32, 1, 5, 5\), MobileNet V1 at width 0\.25 has \(32, 1, 3, 3\)"):
        read_weights(write_keras_old(layers), name="odd.h5")


def test_nan_is_refused():
    layers = keras_layers(0.25, num_classes=5, seed=1)
    layers["conv_pw_3_bn"]["beta"][4] = np.nan
    with pytest.raises(ValueError, match=r"^x\.h5: damaged: blocks\.conv3\.pointwise\.norm\.bias holds NaN"):
        read_weights(write_keras_old(layers), name="x.h5")


def test_a_negative_variance_is_refused():
    """Its root is NaN, and so would be every output."""
    layers = keras_layers(0.25, num_classes=5, seed=1)
    layers["conv_pw_3_bn"]["moving_variance"][4] = -0.5
    with pytest.raises(ValueError, match=r"pointwise\.norm\.running_var holds -0\.5; no variance is below 0"):
        read_weights(write_keras_old(layers), name="x.h5")
