"""TFLite files in every form that converters write give what the original runtime computes."""

import numpy as np
import pytest
import torch

pytest.importorskip("ai_edge_litert", reason="needs the original runtime: pip install ai-edge-litert")
pytest.importorskip("flatbuffers")

from ai_edge_litert.interpreter import Interpreter

from backbone import create_backbone
from backbone.weights import create_backbone_from
from backbone.weights.read import read_weights
from backbone.weights.readers.tflite import input_preprocessing
from backbone.weights.readers.tflite_graph import read_graph
from tests.backbone.weights.tflite_files import Writer, write_tflite
from tests.backbone.weights.weight_files import shuffle_norms

FORMS: dict[str, dict[str, object]] = {
    "as Google": {"head": "conv", "background": True},
    "as Keras": {"pad": "keras", "head": "dense"},
    "symmetric": {"pad": "symmetric", "head": "dense"},
    "activation apart": {"activation": "operator"},
    "float16": {"weights": "float16"},
    "8 bits per channel": {"weights": "int8"},
}


@pytest.fixture(scope="module")
def network():
    return shuffle_norms(create_backbone("a025", num_classes=1000), seed=1)


def run(data: bytes, x: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]


@pytest.mark.parametrize("activation", ["relu6", "relu"])
@pytest.mark.parametrize("form", FORMS)
def test_same_probabilities_as_the_runtime(form, activation):
    options = FORMS[form]
    padding = "symmetric" if options.get("pad") == "symmetric" else "same"
    torch.manual_seed(1)
    model = shuffle_norms(create_backbone("a025", num_classes=1000, padding=padding, activation=activation), seed=1)
    data = write_tflite(model, 64, **options)
    x = np.random.default_rng(2).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    theirs = run(data, x)
    weights = read_weights(data, name="net.tflite")
    assert (weights.padding, weights.activation, weights.resolution) == (padding, activation, 64)
    assert (weights.width_mult, weights.num_classes, weights.class_list) == (0.25, 1000, "imagenet")
    assert weights.quantised == (form == "8 bits per channel")
    with torch.inference_mode():
        ours = create_backbone_from(weights).eval()(torch.from_numpy(x).permute(0, 3, 1, 2))[0].softmax(0).numpy()
    if options.get("background"):
        theirs = theirs[1:] / theirs[1:].sum()
    assert theirs.max() > 3e-3
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * theirs.max())


def test_without_classifier():
    model = shuffle_norms(create_backbone("a025", num_classes=0), seed=1)
    weights = read_weights(write_tflite(model, 64), name="features.tflite")
    assert weights.num_classes == 0 and "classifier.weight" not in weights.state_dict


def test_folded_norm_is_the_identity(network):
    state_dict = read_weights(write_tflite(network, 64), name="net.tflite").state_dict
    norm = {
        name: state_dict[f"blocks.conv3.pointwise.norm.{name}"] for name in ("weight", "running_mean", "running_var")
    }
    assert (norm["weight"] == 1).all() and (norm["running_mean"] == 0).all()
    torch.testing.assert_close(torch.sqrt(norm["running_var"] + 1e-3), torch.ones(32))


def test_quantised_tensor_by_hand():
    writer = Writer()
    per_tensor = writer.tensor((2, 2), "uint8", np.array([[0, 128], [130, 255]]), scale=0.5, zero_point=128)
    per_channel = writer.tensor((2, 3), "int8", np.array([[1, 2, 3], [-4, -5, -6]]), scale=[1, 10, 100], axis=1)
    graph = read_graph(writer.bytes([], []), name="by hand")
    assert graph.tensors[per_tensor].real().tolist() == [[-64.0, 0.0], [1.0, 63.5]]
    assert graph.tensors[per_channel].real().tolist() == [[1.0, 20.0, 300.0], [-4.0, -50.0, -600.0]]
    assert graph.tensors[per_tensor].real_range() == (-64.0, 63.5)


@pytest.mark.parametrize(
    "dtype, scale, zero_point, mean, std",
    [
        ("uint8", 1 / 128, 128, 128 / 255, 128 / 255),
        ("int8", 1 / 127.5, 0, 128 / 255, 0.5),
        ("float32", None, 0, 0.5, 0.5),
    ],
)
def test_preprocessing_from_the_input(dtype, scale, zero_point, mean, std):
    writer = Writer()
    given = writer.tensor((1, 32, 32, 3), dtype, scale=scale, zero_point=zero_point)
    found = input_preprocessing(read_graph(writer.bytes([given], []), name="input"))
    assert found.mean == pytest.approx((mean,) * 3) and found.std == pytest.approx((std,) * 3)


def test_other_graphs_are_refused(network):
    writer = Writer()
    given = writer.tensor((1, 32, 32, 3))
    out = writer.tensor((1, 32, 32, 3))
    writer.operator("RELU6", [given], [out])
    data = writer.bytes([given], [out])
    with pytest.raises(
        ValueError, match=r"^x\.tflite: not MobileNet V1: convolution 1 should be CONV_2D, found RELU6$"
    ):
        read_weights(data, name="x.tflite")
    with pytest.raises(ValueError, match="its input is not one batch of images"):
        read_weights(writer.bytes([], []), name="x.tflite")


def test_a_missing_scale_is_refused():
    writer = Writer()
    channels = writer.tensor((4,), "int8", np.arange(4), scale=[1, 2, 3])
    graph = read_graph(writer.bytes([], []), name="odd")
    with pytest.raises(ValueError, match=r"of shape \(4,\) has 3 scales along axis 0"):
        graph.tensors[channels].real()
