"""The detector of one anchor a cell."""

import json

import numpy as np
import pytest
import torch

from apps.common.images import read_image, stack_images
from apps.detection.boxes.boxes import decode_offsets
from apps.detection.data.batches import to_square
from apps.detection.export import Config as ExportConfig
from apps.detection.export import export
from apps.detection.loss.quality_loss import QualityLoss
from apps.detection.model.create import create_detector
from apps.detection.model.detector import Detector
from apps.detection.model.end_to_end import EndToEnd
from apps.detection.model.pyramid import decode_sides
from apps.detection.train import train
from backbone.cost import count_module
from tests.common.exported_files import need_exporter
from tests.conftest import draw_tiny_coco, leave_out_reports
from tests.detection.loss.test_matching import make_targets
from tests.detection.tiny_runs import tiny_config


@pytest.mark.parametrize("backbone", ["a100", "a075", "a050", "a025"])
@pytest.mark.parametrize(("num_classes", "resolution"), [(90, 300), (80, 320), (20, 300), (20, 192)])
def test_it_costs_no_more_than_the_reference(backbone, num_classes, resolution):
    cost = {}
    for head in ("ssd", "pyramid"):
        detector = create_detector(backbone, num_classes=num_classes, resolution=resolution, head=head)
        cost[head] = count_module(detector, (1, 3, resolution, resolution))
    assert cost["pyramid"][0] <= cost["ssd"][0]
    assert cost["pyramid"][1] <= cost["ssd"][1]


@pytest.mark.parametrize(("resolution", "grids"), [(300, (38, 19, 10, 5)), (65, (9, 5, 3, 2)), (32, (4, 2, 1, 1))])
def test_every_cell_of_every_level_has_one_anchor(resolution, grids):
    detector = create_detector("a025", num_classes=3, resolution=resolution, head="pyramid").eval()
    output = detector(torch.zeros(2, 3, resolution, resolution))
    count = sum(grid**2 for grid in grids)
    assert output["class_logits"].shape == (2, count, 4)
    assert output["offsets"].shape == (2, count, 4)
    anchors = detector.anchors_cxcywh
    assert len(anchors) == count
    assert torch.allclose(anchors[0], torch.tensor([0.5, 0.5, 4, 4]) / grids[0])
    assert detector.level_sizes == tuple(grid**2 for grid in grids)
    assert torch.allclose(detector.cells, torch.cat([torch.full((grid**2,), 1 / grid) for grid in grids]))
    assert not output["class_logits"][..., 0].any()
    assert torch.allclose(output["class_logits"][..., 1:].sigmoid().mean(), torch.tensor(0.01), rtol=0.5)


def test_every_parameter_learns():
    detector = create_detector("a025", num_classes=3, resolution=64, head="pyramid")
    output = detector(torch.rand(4, 3, 64, 64))
    box = ([0.2, 0.3, 0.9, 0.9], 2)
    criterion = QualityLoss(detector.cells, detector.level_sizes)
    criterion(output, detector.anchors_cxcywh, make_targets([box], [box], [], [box])).sums[0].backward()
    # the background has no logit of its own, and what the box does not touch at all may rest
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert sum(bool(p.grad.any()) for p in detector.parameters()) > 0.9 * len(list(detector.parameters()))


def test_a_box_lies_where_its_sides_say():
    """Each side sure of one distance, or half of two."""
    detector = create_detector("a025", num_classes=3, resolution=64, head="pyramid")
    side_logits = torch.full((1, len(detector.anchors_cxcywh), 4, 8), -100.0)
    for side, distances in enumerate([(1,), (2,), (0, 1), (7,)]):
        side_logits[:, :, side, list(distances)] = 0.0
    cells, centres = detector.cells[:, None], detector.anchors_cxcywh[:, :2]
    boxes = decode_sides(side_logits, centres, cells)
    away = torch.tensor([[-1.0, -2.0, 0.5, 7.0]]) * cells
    assert torch.allclose(boxes, torch.cat((centres, centres), dim=1) + away, atol=1e-6)


def test_offsets_are_those_of_the_sides():
    detector = create_detector("a025", num_classes=3, resolution=64, head="pyramid").eval()
    with torch.no_grad():
        output = detector(torch.rand(2, 3, 64, 64))
    boxes = decode_offsets(output["offsets"], detector.anchors_cxcywh)
    assert torch.allclose(
        boxes, decode_sides(output["side_logits"], detector.anchors_cxcywh[:, :2], detector.cells[:, None]), atol=1e-5
    )


def test_a_pixel_changes_what_is_near_it():
    """The levels are joined the right way round: a change at the top left moves the anchors there most."""
    detector = create_detector("a025", num_classes=1, resolution=256, head="pyramid").eval()
    images = torch.zeros(2, 3, 256, 256)
    images[1, :, :32, :32] = 1.0
    with torch.no_grad():
        logits = detector(images)["class_logits"][..., 1]
    change = (logits[1] - logits[0]).abs()[: 32 * 32].view(32, 32)
    assert change[:8, :8].mean() > 3 * change[24:, 24:].mean()


def test_wrong_head():
    with pytest.raises(ValueError, match="head must be one of ssd, pyramid, got 'yolo'"):
        create_detector("a025", num_classes=1, resolution=64, head="yolo")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A few steps, in two batches each."""
    folder = tmp_path_factory.mktemp("pyramid")
    data = draw_tiny_coco(folder / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        leave_out_reports(patch, "detection")
        train(tiny_config(data, folder / "run", head="pyramid", accumulate=2, eval_every=3))
    return folder / "run"


def test_a_model_knows_its_head(run, tiny_coco, tmp_path, capsys, no_report):
    assert json.loads((run / "config.json").read_text())["head"] == "pyramid"
    detector = Detector.load(run / "best", device=torch.device("cpu"))
    assert detector.head == "pyramid"
    detector.save(tmp_path / "copy", metrics={})
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    again = Detector.load(tmp_path / "copy", device=torch.device("cpu"))
    for one, other in zip(detector(images), again(images), strict=True):
        assert torch.equal(one.scores, other.scores)

    capsys.readouterr()
    train(tiny_config(tiny_coco, tmp_path / "second", weights=str(run), steps=2))
    assert "class rows of red, blue are taken by name" in capsys.readouterr().out
    assert json.loads((tmp_path / "second/config.json").read_text())["head"] == "pyramid"
    train(tiny_config(tiny_coco, tmp_path / "third", weights=str(run), head="ssd", steps=1))
    said = capsys.readouterr().out
    assert "starting from the backbone of " in said and "the backbone is taken, the head is new" in said
    assert json.loads((tmp_path / "third/config.json").read_text())["head"] == "ssd"


def test_the_file_computes_the_same(run, tiny_coco):
    need_exporter()
    onnxruntime = pytest.importorskip("onnxruntime")
    path = export(ExportConfig(checkpoint=run, data=str(tiny_coco), out=run / "a.onnx", max_drop=1.0))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = [to_square(read_image(p), 64) for p in sorted((tiny_coco / "val").glob("*.png"))]
    detector = Detector.load(run, device=torch.device("cpu"))
    with torch.inference_mode():
        expected = detector.network(detector.preprocessing(stack_images(images)))
    names = ["class_logits", "offsets"]
    for given, name in zip(session.run(names, {"images": np.stack(images)}), names, strict=True):
        assert given == pytest.approx(expected[name].numpy(), abs=1e-4)
    anchors = json.loads(session.get_modelmeta().custom_metadata_map["anchors_cxcywh"])
    assert np.allclose(anchors, detector.network.anchors_cxcywh, atol=1e-6)


def test_suppression_in_the_network_is_that_outside(run):
    detector = Detector.load(run, device=torch.device("cpu")).with_thresholds(score_threshold=0.0)
    network = EndToEnd(detector.network, detector.postprocess)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        found = network(detector.preprocessing(images))
    for i, expected in enumerate(detector(images)):
        assert len(expected.scores) > 3
        assert torch.equal(found["scores"][i, : len(expected.scores)], expected.scores)
        assert torch.equal(found["labels"][i, : len(expected.scores)], expected.labels)


@pytest.mark.parametrize("flags", [{"loss": "softmax"}, {"fit_anchors": True}])
def test_what_is_for_an_ssd_is_refused(tiny_coco, tmp_path, flags):
    with pytest.raises(ValueError, match="--loss and --fit-anchors are for an SSD, this is --head pyramid"):
        train(tiny_config(tiny_coco, tmp_path / "run", head="pyramid", **flags))
    assert not (tmp_path / "run").exists()


def test_an_assigner_is_for_a_pyramid(tiny_coco, tmp_path):
    with pytest.raises(ValueError, match="--assigner is for a pyramid, this is --head ssd"):
        train(tiny_config(tiny_coco, tmp_path / "run", head="ssd", assigner="aligned"))
    assert not (tmp_path / "run").exists()
