"""What a detector starts from: the published COCO detector against its original runtime, transfer, wrong weights."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from apps.common.images import Normalisation, read_image
from apps.detection import eval as eval_script
from apps.detection.boxes.anchors import make_anchors
from apps.detection.boxes.boxes import box_iou
from apps.detection.boxes.postprocess import PostProcess
from apps.detection.data.coco_classes import COCO_CLASSES, match_names
from apps.detection.model.create import create_detector
from apps.detection.model.detector import Detector
from apps.detection.model.pretrained import load_pretrained
from apps.detection.model.tflite_ssd import DETECTION, read_ssd_head
from apps.detection.predict import Predictor
from backbone import create_backbone
from backbone.mobilenet_v1 import ConvStyle
from backbone.names import backbone_name, parse_backbone
from backbone.weights import create_backbone_from, load_graph, load_weights, unfold_norms
from backbone.weights.loaded_weights import LAYERS
from backbone.weights.readers.tflite_graph import TFLiteGraph, TFLiteTensor
from tests.backbone.weights.weight_files import keras_layers, shuffle_norms, write_keras_old

CPU = torch.device("cpu")


@pytest.fixture
def coco_file(shared: Path) -> Path:
    return shared / "weights/ssd_mobilenet_v1_0.75_coco_quant.tflite"


@pytest.fixture
def published(coco_file: Path) -> Detector:
    return Detector.published(str(coco_file), backbone="a075", device=CPU)


def agreement(detector: Detector, shared: Path) -> list[float]:
    """For each box that the original runtime gives a score of 0.3 and more on six photos: its best IoU with one of
    ours of the same class and a score within 0.03."""
    expected = np.load(shared / "weights/ssd_mobilenet_v1_0.75_coco_quant.expected.npz")
    images = torch.from_numpy(expected["images_u8_NHWC"]).permute(0, 3, 1, 2)
    overlaps = []
    for i, found in enumerate(detector(images)):
        boxes = torch.from_numpy(expected["boxes_ymin_xmin_ymax_xmax"][i])[:, [1, 0, 3, 2]].clamp(0, 1)
        iou = box_iou(boxes, found.boxes_xyxy)
        ids = torch.tensor(detector.category_ids)[found.labels - 1]
        for j, score in enumerate(expected["scores"][i]):
            if score >= 0.3:
                category_id = int(expected["classes_label_line_minus_1"][i, j]) + 1
                alike = (ids == category_id) & ((found.scores - score).abs() <= 0.03)
                overlaps.append(iou[j, alike].max().item() if alike.any() else 0.0)
    assert len(overlaps) == 38
    return overlaps


def file_anchors(graph: TFLiteGraph) -> TFLiteTensor:
    (operator,) = (one for one in graph.operators if one.custom_name == DETECTION)
    return graph.tensors[operator.inputs[2]]


def round_as_the_file_does(detector: Detector, graph: TFLiteGraph) -> None:
    """Let every convolution give 8-bit numbers, as the original runtime does, and take the file's 8-bit anchors.

    Of the equal scores that this makes the first anchor's wins.
    """

    def rounded(index: int):
        scale, zero = graph.tensors[index].quantization.scale[0], graph.tensors[index].quantization.zero_point[0]
        return lambda x: ((x / scale).round() + zero).clamp(0, 255).sub(zero) * scale

    network = detector.network
    modules = [network.get_submodule(f"backbone.{name}") for name in LAYERS]
    modules += [part for extra in network.extras for part in (extra.reduce, extra.shrink)]
    for box, classes in zip(network.box_predictors, network.class_predictors, strict=True):
        modules += [box, classes]
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D")
    outputs = [operator.outputs[0] for operator in graph.operators if operator.kind in kinds]
    for module, round_output in zip(modules, [rounded(index) for index in outputs], strict=True):
        module.register_forward_hook(lambda _module, _inputs, y, f=round_output: f(y))
    round_offsets, round_logits = (rounded(one.outputs[0]) for one in graph.operators if one.kind == "CONCATENATION")
    first = 1e-6 * torch.arange(len(network.anchors_cxcywh))[:, None]
    network.register_forward_hook(
        lambda _module, _inputs, y: {
            "offsets": round_offsets(y["offsets"]),
            "class_logits": round_logits(y["class_logits"]) - first,
        }
    )
    network.anchors_cxcywh.copy_(file_anchors(graph).real()[:, [1, 0, 3, 2]])


def test_rounded_as_in_its_file_the_published_detector_is_the_original_one(published, coco_file, shared):
    round_as_the_file_does(published, load_graph(coco_file))
    assert min(agreement(published, shared)) >= 0.9


def test_the_published_detector_finds_what_the_original_runtime_finds(published, coco_file, shared):
    """Without that rounding, boxes move: by the anchors, which are off by up to 0.0032 of the photo's side in the file
    (much for a kite of 0.03), and two of them by its 8-bit sums."""
    overlaps = agreement(published, shared)
    assert sum(overlap >= 0.7 for overlap in overlaps) >= 37
    published.network.anchors_cxcywh.copy_(file_anchors(load_graph(coco_file)).real()[:, [1, 0, 3, 2]])
    overlaps = agreement(published, shared)
    assert sum(overlap >= 0.9 for overlap in overlaps) >= 36
    assert min(overlaps) >= 0.8


def test_relu6_of_the_backbone_is_not_lost(coco_file):
    """The file does not name it: it is implied by the range of the 8-bit outputs."""
    start = load_pretrained(coco_file, width_mult=0.75)
    assert start.style.activation == "relu6"
    assert start.style.padding == "same"


def test_our_anchors_are_the_ones_in_the_file(coco_file):
    tensor = file_anchors(load_graph(coco_file))
    stored_cxcywh = tensor.real()[:, [1, 0, 3, 2]]
    ours = make_anchors([(side, side) for side in (19, 10, 5, 3, 2, 1)])
    assert ours.shape == stored_cxcywh.shape == (1917, 4)
    torch.testing.assert_close(ours, stored_cxcywh, rtol=0, atol=tensor.quantization.scale.item() / 2 + 1e-6)


def test_published_detector_knows_its_classes_and_pixels(published):
    assert dict(zip(published.category_ids, published.class_names, strict=True)) == COCO_CLASSES
    assert published.preprocessing == Normalisation(mean=(128.0,) * 3, std=(128.0,) * 3)
    assert published.resolution == 300


def test_ap_on_real_photos(published, coco_file, shared, tmp_path):
    """At least the original runtime's AP of 0.208 on these 106 photos, which it reaches with 10 boxes a photo."""
    config = eval_script.Config(
        weights=str(coco_file), data=str(shared / "data/detection/coco_mini"), num_workers=0, out=tmp_path, device="cpu"
    )
    metrics = eval_script.evaluate(config)
    assert metrics["AP"] >= 0.208
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["AP"] == metrics["AP"]
    assert published.threshold == pytest.approx(written["best_threshold"]["threshold"], abs=0.005)


def test_the_published_detector_is_sparing_with_boxes_and_names(coco_file, shared):
    """At 0.3, with all names, it had 89 boxes on these six photos: a hot dog that is a pizza and a sandwich, too."""
    photos = [read_image(path) for path in sorted((shared / "data/photos").glob("*.jpg"))]
    found = Predictor(weights=str(coco_file), device="cpu", runtime="torch").batch(photos)
    assert len(photos) <= sum(map(len, found)) <= 35
    for some in found:
        boxes = torch.tensor([one.box_xyxy_px for one in some])
        assert torchvision.ops.box_iou(boxes, boxes).fill_diagonal_(0).max() <= 0.6


def test_fine_tuning_keeps_all_that_fits_and_joins_classes_by_name(published, coco_file):
    names = ["Aeroplane", "dog", "unicorn", "potted_plant"]
    start = load_pretrained(coco_file, width_mult=0.75)
    network = create_detector("a075", num_classes=4, resolution=160, head="ssd", style=start.style)
    fresh = {name: value.clone() for name, value in network.state_dict().items()}
    sentence = start.put_into(network, names)
    assert "Aeroplane, dog, potted_plant are taken by name, those of unicorn are new" in sentence
    theirs, ours = published.network.state_dict(), network.state_dict()
    kept = Counter()
    for name, value in ours.items():
        part = name.split(".")[0]
        if part != "class_predictors":
            assert torch.equal(value, theirs[name]), name
            kept[part] += 1
            continue
        rows, known = value.unflatten(0, (-1, 5)), theirs[name].unflatten(0, (-1, 81))
        labels = [published.class_names.index(one) + 1 for one in ("airplane", "dog", "potted plant")]
        assert torch.equal(rows[:, [0, 1, 2, 4]], known[:, [0, *labels]])
        assert torch.equal(rows[:, 3], fresh[name].unflatten(0, (-1, 5))[:, 3])
    assert set(kept) == {"backbone", "extras", "box_predictors"}


def test_classes_that_differ_in_case_alone_are_not_mixed_up():
    assert match_names(["A", "a", "hot-dog", "sofa", "x"], ["a", "couch", "A", "hot dog"]) == [2, 0, 3, 1, None]
    assert match_names(["A", "a"], ["A"]) == [0, None]


def test_a_model_of_this_app_is_a_start_too(tmp_path):
    first = create_detector("a025", num_classes=3, resolution=64, head="ssd")
    saved = Detector(
        network=first,
        backbone="a025",
        class_names=["x", "y", "z"],
        category_ids=[1, 2, 3],
        postprocess=PostProcess("sigmoid"),
        preprocessing=Normalisation(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0)),
    )
    saved.save(tmp_path / "best", metrics={})
    start = load_pretrained(tmp_path, width_mult=0.25)
    second = create_detector("a025", num_classes=3, resolution=96, head=str(start.head), style=start.style)
    start.put_into(second, start.class_names)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value)
    assert start.preprocessing == saved.preprocessing
    third = create_detector("a025", num_classes=2, head="ssd")
    start.put_into(third, ["new", "y"])
    row = first.class_predictors[0].weight.unflatten(0, (-1, 4))[:, 2]
    torch.testing.assert_close(third.class_predictors[0].weight.unflatten(0, (-1, 3))[:, 2], row)
    assert start.for_head(None) is start.for_head("ssd") is start
    alone = start.for_head("pyramid")
    assert alone.of_detector and not alone.is_detector and alone.head is None
    assert alone.preprocessing == saved.preprocessing
    fourth = create_detector("a025", num_classes=2, head="pyramid", style=alone.style)
    before = {name: value.clone() for name, value in fourth.state_dict().items()}
    assert alone.put_into(fourth, ["new", "y"]) == "the backbone is taken, the head is new"
    for name, value in fourth.state_dict().items():
        expected = first.state_dict()[name] if name.startswith("backbone.") else before[name]
        torch.testing.assert_close(value, expected)
    with pytest.raises(ValueError, match="its head is ssd, the network has another one"):
        start.put_into(create_detector("a025", num_classes=3, head="pyramid"), ["x", "y", "z"])
    with pytest.raises(ValueError, match="are of width a025, a050 was asked for"):
        load_pretrained(tmp_path, width_mult=0.5)


@pytest.mark.parametrize("alpha", [1.0, 0.25])
def test_backbone_weights_give_the_features_they_were_trained_for(alpha, tmp_path):
    """Also at a025, where the detector's first layers are wider than the classifier's."""
    pytest.importorskip("h5py")
    path = tmp_path / "keras.h5"
    path.write_bytes(write_keras_old(keras_layers(alpha, num_classes=7, seed=1)))
    assert_same_features(path, backbone_name(alpha))


def test_backbone_weights_bring_their_style(tmp_path):
    provider = pytest.importorskip("pytorchcv.model_provider")
    path = tmp_path / "wd4.pth"
    torch.save(shuffle_norms(provider.get_model("mobilenet_wd4"), seed=1).state_dict(), path)
    style = assert_same_features(path, "a025")
    assert (style.padding, style.activation, style.norm_eps) == ("symmetric", "relu", 1e-5)


def assert_same_features(path: Path, backbone: str) -> ConvStyle:
    """A detector that starts from a classifier's file has that classifier's feature maps; returns its style."""
    classifier = create_backbone_from(load_weights(path)).eval()
    start = load_pretrained(path, width_mult=parse_backbone(backbone))
    network = create_detector(backbone, num_classes=2, resolution=96, head="ssd", style=start.style).eval()
    assert start.put_into(network, ["a", "b"]) == "the backbone is taken, the head is new"
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = classifier.forward_features(images), network.backbone.forward_features(images)
    for name in ("c4", "c5"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    return network.backbone.style


def test_wrong_weights(tmp_path, coco_file):
    with pytest.raises(ValueError, match=r"no COCO detector is published for a050: there are a075, a100"):
        load_pretrained("coco", width_mult=0.5)
    with pytest.raises(ValueError, match=r"has width 0\.75, 1\.00 was asked for"):
        load_pretrained(coco_file, width_mult=1.0)
    with pytest.raises(ValueError, match=r"no ImageNet weights are published for width 0\.6"):
        load_pretrained("imagenet", width_mult=0.6)
    with pytest.raises(ValueError, match="no such file"):
        load_pretrained(tmp_path / "gone.h5", width_mult=1.0)
    with pytest.raises(ValueError, match="give --checkpoint RUN/best, or --weights coco"):
        eval_script.evaluate(eval_script.Config())
    with pytest.raises(ValueError, match="is a folder: a model of this app is given as --checkpoint"):
        Detector.published(str(tmp_path), backbone="a075", device=CPU)
    with pytest.raises(ValueError, match="cannot detect before it is trained"):
        Detector.published("imagenet", backbone="a075", device=CPU)


@pytest.mark.parametrize("head", ["pyramid", "ssd"])
def test_only_the_folded_backbone_is_unfolded_and_a_new_head_starts_fresh(head, tmp_path):
    """From TFLite weights, at a width whose detector has more channels than the file in its first layers."""
    pytest.importorskip("ai_edge_litert")
    from tests.backbone.weights.tflite_files import write_tflite

    classifier = shuffle_norms(create_backbone("a025", num_classes=3), seed=1)
    (tmp_path / "a025.tflite").write_bytes(write_tflite(classifier, 96))
    start = load_pretrained(tmp_path / "a025.tflite", width_mult=0.25)
    network = create_detector("a025", num_classes=2, resolution=96, head=head, style=start.style)
    start.put_into(network, ["a", "b"])
    unfold_norms(network, torch.rand(16, 3, 96, 96) * 2 - 1)
    norms = {name: module for name, module in network.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    fresh = {name for name in norms if f"{name}.weight" not in start.state}
    assert len(norms) - len(fresh) == 27 and fresh
    for name, norm in norms.items():
        loaded = 0 if name in fresh else len(start.state[f"{name}.weight"])
        assert norm.weight[loaded:].eq(1).all() and norm.bias[loaded:].eq(0).all(), name
        assert norm.running_mean[loaded:].eq(0).all() and norm.running_var[loaded:].eq(1).all(), name
        assert norm.running_mean[:loaded].ne(0).any() or name in fresh, name


def test_a_circle_of_extra_levels_ends(tmp_path):
    """A classifier's graph behind which two convolutions of one weight give each other their outputs."""
    pytest.importorskip("ai_edge_litert")
    from tests.backbone.weights.tflite_files import write_tflite

    torch.manual_seed(0)
    (tmp_path / "net.tflite").write_bytes(write_tflite(create_backbone("a025", num_classes=3).eval(), 64))
    graph = load_graph(tmp_path / "net.tflite")
    *_, last = [one for one in graph.operators if one.kind == "CONV_2D"][:-1]  # the last is the classifier
    end, aside = last.outputs[0], graph.operators[-1].outputs[0]
    circle = [
        dataclasses.replace(last, inputs=(a, *last.inputs[1:]), outputs=(b,)) for a, b in ((end, aside), (aside, end))
    ]
    with pytest.raises(ValueError, match=r"net\.tflite: not SSD on MobileNet V1: it has more than 10 levels"):
        read_ssd_head(dataclasses.replace(graph, operators=(*graph.operators, *circle)))
