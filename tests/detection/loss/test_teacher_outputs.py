"""A teacher in the student's place: its grid, its classes by name, its own preprocessing, in eval mode."""

import json

import pytest
import torch

from apps.common.images import Normalisation
from apps.detection.boxes.postprocess import PostProcess
from apps.detection.loss.teacher_outputs import load_teacher, teacher_outputs
from apps.detection.model.create import create_detector
from apps.detection.model.detector import Detector

CPU = torch.device("cpu")


def detector_of(names: list[str], resolution: int = 64, head: str = "pyramid", **settings) -> Detector:
    torch.manual_seed(0)
    network = create_detector("a025", num_classes=len(names), resolution=resolution, head=head).eval()
    ids = list(range(len(names)))
    about = {"backbone": "a025", "class_names": names, "category_ids": ids, "postprocess": PostProcess("sigmoid")}
    return Detector(network=network, **about, **settings)


def test_a_teacher_sees_the_students_pixels_and_names_its_classes_in_the_students_order(tmp_path, capsys):
    plain = Normalisation(mean=(0.0,) * 3, std=(255.0,) * 3)
    larger = detector_of(["airplane", "red", "blue"], resolution=96, preprocessing=plain)
    larger.save(tmp_path / "larger", metrics={})
    student = detector_of(["blue", "aeroplane"])
    teacher = load_teacher(tmp_path / "larger", student, CPU)
    assert "was trained at 96 pixels, and sees 64 now" in capsys.readouterr().out
    assert torch.equal(teacher.network.anchors_cxcywh, student.network.anchors_cxcywh)
    assert not teacher.network.training and not any(p.requires_grad for p in teacher.network.parameters())
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    found = teacher_outputs(teacher, images, "none")

    same = create_detector("a025", num_classes=3, resolution=64)
    same.load_state_dict(larger.network.state_dict())
    with torch.no_grad():
        expected = same.eval()(images / 255)
    torch.testing.assert_close(found["class_logits"], expected["class_logits"][..., [0, 3, 1]])
    torch.testing.assert_close(found["side_logits"], expected["side_logits"])
    assert not found["side_logits"].requires_grad and not found["side_logits"].is_inference()


def test_a_teacher_that_cannot_teach_is_refused(tmp_path):
    student = detector_of(["red", "blue"])
    detector_of(["red", "blue"], head="ssd").save(tmp_path / "ssd", metrics={})
    detector_of(["red", "green"]).save(tmp_path / "other", metrics={})
    for name, told in (
        ("ssd", "ssd is an SSD: a pyramid learns from the run or model folder of a pyramid"),
        ("other", "other lacks classes of the data: blue"),
        ("none", "none does not exist"),
    ):
        with pytest.raises(ValueError, match=told):
            load_teacher(tmp_path / name, student, CPU)
    about = json.loads((tmp_path / "other/model.json").read_text())
    (tmp_path / "other/model.json").write_text(json.dumps({**about, "app": "faceattr"}))
    with pytest.raises(ValueError, match="is of the app 'faceattr', this is 'detection'"):
        load_teacher(tmp_path / "other", student, CPU)
