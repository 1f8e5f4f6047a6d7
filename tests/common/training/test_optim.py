import pytest
import torch
from torch import nn

from apps.common.training.optim import Ema, lr_at, make_optimizer, param_groups, take_step
from apps.common.training.replica import Replica
from backbone import create_backbone


def test_depthwise_filters_norms_and_biases_have_no_weight_decay():
    net = create_backbone("a025", num_classes=7)
    decayed, spared = (group["params"] for group in param_groups(net, weight_decay=0.1))
    names = {id(p): name for name, p in net.named_parameters()}
    assert all("depthwise.conv" not in names[id(p)] and p.ndim > 1 for p in decayed)
    spared_names = [names[id(p)] for p in spared]
    assert sum("depthwise.conv" in name for name in spared_names) == 13
    assert "classifier.bias" in spared_names
    assert len(decayed) + len(spared) == len(names)
    assert "stem.conv.weight" in [names[id(p)] for p in decayed]


def test_learning_rate_rises_then_falls_as_half_a_cosine():
    rates = [lr_at(step, peak=1.0, num_steps=110, warmup_steps=10) for step in range(110)]
    assert rates[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert rates[60] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.00024672, rel=1e-3)
    assert lr_at(0, peak=1.0, num_steps=5, warmup_steps=0) == 1.0


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adamw"])
def test_optimisers_learn(name):
    torch.manual_seed(0)
    net = nn.Linear(3, 1)
    optimizer = make_optimizer(name, net, lr=0.01, weight_decay=0.0)
    x = torch.randn(64, 3)
    losses = []
    for _ in range(60):
        loss = (net(x) - x.sum(dim=1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_average_follows_weights_and_statistics():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = Ema(net, decay=0.9)
    start = ema.model[0].weight.clone()
    with torch.no_grad():
        net[0].weight.add_(1.0)
        net[1].running_mean.fill_(5.0)
        net[1].num_batches_tracked.fill_(3)
    ema.update(net)  # the first decay is 1 / 10, whatever the setting
    torch.testing.assert_close(ema.model[0].weight, start + 0.9)
    torch.testing.assert_close(ema.model[1].running_mean, torch.full((2,), 4.5))
    assert ema.model[1].num_batches_tracked == 3


def test_decay_zero_is_the_plain_weights():
    net = nn.Linear(2, 2)
    ema = Ema(net, decay=0.0)
    with torch.no_grad():
        net.weight.mul_(3)
    ema.update(net)
    torch.testing.assert_close(ema.model.weight, net.weight)


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "fp16"])
@pytest.mark.parametrize(("clip_norm", "length"), [(0.0, 5.0), (1.0, 1.0), (9.0, 5.0)])
def test_a_step_clips_the_gradient_and_forgets_it(clip_norm, length, scaled):
    net = nn.Linear(2, 1, bias=False)
    before = net.weight.detach().clone()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu", enabled=scaled)
    scaler.scale((net.weight * torch.tensor([[3.0, 4.0]])).sum()).backward()
    take_step(optimizer, scaler, Replica(net), clip_norm=clip_norm)
    torch.testing.assert_close(before - net.weight, torch.tensor([[0.6, 0.8]]) * length)
    assert net.weight.grad is None


def test_a_gradient_that_is_not_finite_makes_no_step():
    net = nn.Linear(2, 1, bias=False)
    before = net.weight.detach().clone()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    off, scaler = (torch.amp.GradScaler("cpu", enabled=enabled) for enabled in (False, True))
    net.weight.grad = torch.tensor([[1.0, torch.inf]])
    with pytest.raises(ValueError, match="the gradient is not finite, although the loss is"):
        take_step(optimizer, off, Replica(net), clip_norm=1.0)
    scale = scaler.scale(torch.ones(())).item()
    take_step(optimizer, scaler, Replica(net), clip_norm=1.0)
    assert scaler.get_scale() == scale / 2  # fp16 leaves the step out, and tries a smaller scale
    assert torch.equal(net.weight, before)


def test_wrong_settings():
    net = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="lr must be above 0, got -1"):
        make_optimizer("sgd", net, lr=-1, weight_decay=0)
    with pytest.raises(ValueError, match="weight_decay must be 0 or more"):
        make_optimizer("sgd", net, lr=1, weight_decay=-1)
    with pytest.raises(ValueError, match=r"ema_decay must be from 0 \(off\) to below 1, got 1"):
        Ema(net, decay=1.0)
