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


def test_fresh_norms_and_fresh_channels_stay_as_they_are():
    """Behind folded layers: a new head whose norm has gamma 1 and beta 0, and a layer wider than its file."""
    torch.manual_seed(0)
    wide, head = nn.BatchNorm2d(16, eps=1e-3), nn.BatchNorm2d(8, eps=1e-3)
    nn.init.constant_(wide.running_var[:10], 1 - wide.eps)
    nn.init.uniform_(wide.bias[:10], 1, 2)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), wide, nn.ReLU(), nn.Conv2d(16, 8, 1, bias=False), head)
    images = 5 * torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        model.eval()
        expected = model(images)
        seen = model[0](images)
        unfold_norms(model, images)
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(wide.running_var[:10], seen.var((0, 2, 3), correction=0)[:10])
    torch.testing.assert_close(wide.weight[:10], wide.running_var[:10].add(wide.eps).sqrt())
    for norm, fresh in ((wide, slice(10, None)), (head, slice(None))):
        assert norm.weight[fresh].eq(1).all() and norm.bias[fresh].eq(0).all()
        assert norm.running_mean[fresh].eq(0).all() and norm.running_var[fresh].eq(1).all()
