"""BatchNorm out of folded weights: the same function in eval mode, and nearly so in training mode."""

import torch
from torch import nn

from backbone import create_backbone
from backbone.weights import unfold_norms


def folded_network() -> nn.Module:
    """A net as a TFLite file gives it: mean 0 and variance 1 - eps, whatever the layer really sees."""
    torch.manual_seed(0)
    model = create_backbone("a025", num_classes=10)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.running_var, 1 - module.eps)
            nn.init.uniform_(module.bias, 0, 1)
    return model


def test_eval_mode_computes_the_same_and_training_mode_nearly_so():
    model, images = folded_network(), torch.randn(24, 3, 96, 96)
    with torch.no_grad():
        expected = model.eval()(images)
        model.train()
        undone = model(images)  # moves the running statistics, which eval mode must not see
        model = folded_network()
        unfold_norms(model, images)
        assert model.training
        trained = model(images)
        model.eval()
    spread = expected.std()
    assert (undone - expected).abs().max() > spread
    assert (trained - expected).abs().max() < 0.01 * spread
    fresh = folded_network()
    unfold_norms(fresh, images)
    with torch.no_grad():
        torch.testing.assert_close(fresh.eval()(images), expected, rtol=1e-4, atol=1e-4)
