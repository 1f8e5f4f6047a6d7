"""Which part of a classifier learns when."""

import torch
import torch.nn.functional as F

from apps.common.pretrained import TENSORFLOW_STYLE
from apps.finegrained.model.create import create_classifier
from apps.finegrained.model.pretrained import set_phase


def test_what_learns_in_each_phase():
    network = create_classifier("a025", num_classes=3, style=TENSORFLOW_STYLE)

    def step(**phase) -> set[str]:
        """Names of all tensors that a training step changes."""
        set_phase(network, **phase)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        network.zero_grad(set_to_none=True)
        F.cross_entropy(network(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 0])).backward()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.grad is not None:
                    parameter -= 1e-3 * parameter.grad.sign()
        return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}

    assert step(head_only=True, freeze_bn="none") == {"classifier.weight", "classifier.bias"}
    everything = step(head_only=False, freeze_bn="none")
    assert "stem.norm.running_mean" in everything
    stats = step(head_only=False, freeze_bn="stats")
    assert everything - stats == {name for name in everything if "running_" in name or "num_batches" in name}
    frozen = step(head_only=False, freeze_bn="all")
    assert stats - frozen == {name for name in stats if ".norm." in name}
    assert step(head_only=False, freeze_bn="none") == everything  # and it can be undone
