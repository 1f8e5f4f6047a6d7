"""Google's published weights, where they lie beside the checkout, against what the original runtimes computed.

The pinned counts were printed by `benchmarks/imagenet_weights.py`, which runs tf-keras 2.21 and LiteRT 2.3 beside ours.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backbone import create_backbone
from backbone.weights import create_backbone_from, load_graph, load_weights
from backbone.weights.readers.tflite import read_backbone_convs

KERAS = "mobilenet_1_0_224_tf.h5"
TOLERANCE = 1e-4  # of probabilities


@pytest.fixture
def published(shared: Path):
    def find(name: str) -> Path:
        path = shared / "weights" / name
        if not path.exists():
            pytest.skip(f"needs {path}, which is not part of the project")
        return path

    return find


@pytest.fixture
def keras(published):
    pytest.importorskip("h5py")
    return load_weights(published(KERAS))


@pytest.fixture
def expected(published):
    """Six photos (6, 3, 224, 224) as uint8 and the probabilities (6, 1000) that tf-keras gives."""
    with np.load(published("mobilenet_1_0_224_tf.expected.npz")) as file:
        return torch.from_numpy(file["images_u8_NHWC"]).permute(0, 3, 1, 2), torch.from_numpy(file["probs_N1000"])


@pytest.fixture
def sample(shared: Path):
    """resolution -> the 100 ImageNet photos (100, 3, H, W) as uint8 and their classes (100,)."""
    paths = sorted((shared / "data" / "imagenet_sample").glob("*.JPEG"))
    if len(paths) != 100:
        pytest.skip("needs the 100 photos of ../shared/data/imagenet_sample")

    def load(resolution: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.stack([photo(path, resolution) for path in paths]), torch.arange(100) * 10 + 3

    return load


def photo(path: Path, resolution: int) -> torch.Tensor:
    """Centre crop of 7/8 of the short side, resized bilinearly: (3, resolution, resolution), uint8."""
    image = Image.open(path).convert("RGB")
    side = round(0.875 * min(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((resolution,) * 2, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def logits(model, preprocessing, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([model.eval()(preprocessing.normalise(batch)) for batch in pixels.split(25)])


def num_right(weights, photos: tuple[torch.Tensor, torch.Tensor]) -> int:
    pixels, labels = photos
    found = logits(create_backbone_from(weights), weights.preprocessing, pixels).argmax(1)
    return int((found == labels).sum())


def test_probabilities_of_keras(keras, expected):
    pixels, probs = expected
    ours = logits(create_backbone_from(keras), keras.preprocessing, pixels).softmax(1)
    torch.testing.assert_close(ours, probs, atol=TOLERANCE, rtol=0)
    assert keras.num_parameters == 4_231_976


@pytest.mark.parametrize("mistake", [{"padding": "symmetric"}, {"norm_eps": 1e-5}, {"activation": "relu"}], ids=str)
def test_each_classic_mistake_shows(keras, expected, mistake):
    pixels, probs = expected
    right = {"padding": keras.padding, "norm_eps": keras.norm_eps, "activation": keras.activation}
    model = create_backbone("a100", **{**right, **mistake})
    model.load_state_dict(keras.state_dict)
    wrong = logits(model, keras.preprocessing, pixels).softmax(1)
    worst = (wrong - probs).abs().amax(1)
    assert (worst > 5 * TOLERANCE).sum() >= 5, worst  # of the sixth photo the network is certain, come what may


def test_top1_of_keras_at_its_resolution_and_below(keras, sample):
    assert num_right(keras, sample(224)) == 93  # tf-keras: 93, the same class on every photo
    assert 78 <= num_right(keras, sample(160)) <= 90
    assert 58 <= num_right(keras, sample(128)) <= 75


@pytest.mark.parametrize(
    "name, backbone, resolution, original",
    [("mobilenet_v1_0.25_128_quant.tflite", "a025", 128, 50), ("mobilenet_v1_0.75_192_quant.tflite", "a075", 192, 76)],
)
def test_top1_of_quantised_files(published, sample, name, backbone, resolution, original):
    weights = load_weights(published(name))
    assert (weights.backbone, weights.resolution, weights.num_classes) == (backbone, resolution, 1000)
    assert weights.quantised and weights.preprocessing.input_range == pytest.approx((-1, 127 / 128))
    assert abs(num_right(weights, sample(resolution)) - original) <= 1


@pytest.mark.filterwarnings("ignore:Warning. Enabling `experimental_preserve_all_tensors`")
@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant.tflite", "mobilenet_v1_0.75_192_quant.tflite"])
def test_logits_of_quantised_files_follow_the_runtime(published, sample, name):
    runtime = pytest.importorskip("ai_edge_litert.interpreter", reason="needs pip install ai-edge-litert")
    path = published(name)
    weights = load_weights(path)
    pixels = sample(weights.resolution)[0][::5]
    ours = logits(create_backbone_from(weights), weights.preprocessing, pixels)
    interpreter = runtime.Interpreter(str(path), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    graph = load_graph(path)
    (softmax,) = (operator for operator in graph.operators if operator.kind == "SOFTMAX")
    quantization = graph.tensors[softmax.inputs[0]].quantization
    for image, found in zip(pixels, ours, strict=True):
        interpreter.set_tensor(graph.inputs[0], image.permute(1, 2, 0)[None].numpy())
        interpreter.invoke()
        stored = torch.from_numpy(interpreter.get_tensor(softmax.inputs[0]).ravel()[1:].astype(np.float32))
        theirs = (stored - quantization.zero_point) * quantization.scale
        ranks = torch.stack([found.argsort().argsort(), theirs.argsort().argsort()]).float()
        assert torch.corrcoef(ranks)[0, 1] > 0.99
        assert theirs[found.argmax()] >= theirs.max() - 3 * quantization.scale  # our first is near their first


def test_backbone_of_the_detector(published):
    path = published("ssd_mobilenet_v1_0.75_coco_quant.tflite")
    weights = load_weights(path)
    assert (weights.backbone, weights.num_classes, weights.resolution) == ("a075", 0, 300)
    assert (weights.padding, weights.activation) == ("same", "relu6")
    graph = load_graph(path)
    backbone = {conv.output for conv in read_backbone_convs(graph)}
    fused = {op.options["activation"] for op in graph.operators if op.outputs[0] in backbone}
    assert fused == {"NONE"}  # its ReLU6 is implied by the range of the outputs alone


def test_graph_of_the_detector(published):
    graph = load_graph(published("ssd_mobilenet_v1_0.75_coco_quant.tflite"))
    counts = graph.counts()
    assert counts["CONV_2D"] + counts["DEPTHWISE_CONV_2D"] == 47
    operator = graph.operators[-1]
    assert operator.custom_name == "TFLite_Detection_PostProcess"
    assert operator.options["max_detections"] == 10 and operator.options["num_classes"] == 90
    scales = [operator.options[f"{axis}_scale"] for axis in "xywh"]
    assert scales == [10, 10, 5, 5] and operator.options["nms_iou_threshold"] == pytest.approx(0.6)
    anchors = graph.tensors[operator.inputs[2]].real()
    assert anchors.shape == (1917, 4)
    assert 0 <= anchors[:, :2].min() and anchors[:, :2].max() <= 1
