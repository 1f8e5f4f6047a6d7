"""What a teacher says about a batch, on the pixels that the student sees."""

import torch

from apps.common.pretrained import TENSORFLOW_STYLE
from apps.finegrained.data.mix import Mix
from apps.finegrained.loss.teacher_outputs import teacher_outputs
from apps.finegrained.model.classifier import Classifier
from apps.finegrained.model.create import create_classifier


def test_a_teacher_sees_the_mixed_pixels_after_its_own_preprocessing():
    torch.manual_seed(0)
    network = create_classifier("a025", num_classes=2, style=TENSORFLOW_STYLE).eval()
    teacher = Classifier(network=network, backbone="a025", resolution=32, class_names=["crab", "eel"])
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    alone = teacher_outputs(teacher, images, Mix(1.0, None))
    assert not alone.requires_grad
    torch.testing.assert_close(alone, teacher.logits(images))
    half = teacher_outputs(teacher, images, Mix(0.5, None))
    torch.testing.assert_close(half[0], half[1])  # half of each is the same picture for both
    left_half = Mix(0.5, (0.0, 1.0, 0.0, 0.5))
    pasted = torch.cat([images.flip(0)[..., :16], images[..., 16:]], dim=3)
    torch.testing.assert_close(teacher_outputs(teacher, images, left_half), teacher.logits(pasted))
