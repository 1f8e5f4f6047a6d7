"""The network against timm's, an independent port: same weights and statistics in, same maps and logits out."""

import pytest
import torch
from torch import nn

from backbone import create_backbone

timm = pytest.importorskip("timm", reason="timm is not installed; it is the peer the numbers are compared with")

TOLERANCE = 1e-5  # of the largest value of a map or of the logits


@pytest.fixture(scope="module")
def peer():
    """timm's net with every number that a trained one has made random, statistics of the norms included."""
    torch.manual_seed(0)
    net = timm.create_model("mobilenetv1_100", pretrained=False).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.2, 0.2)
            nn.init.normal_(module.running_mean, 0.0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    nn.init.normal_(net.classifier.bias)
    return net


def with_weights_of(peer, **options):
    """Ours with timm's state: both nets list their layers in the order they run, so the entries pair up."""
    net = create_backbone("a100", **options).eval()
    ours, theirs = net.state_dict(), peer.state_dict()
    kinds = [[(key.rpartition(".")[2], tuple(value.shape)) for key, value in state.items()] for state in (ours, theirs)]
    assert kinds[0] == kinds[1]
    net.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    return net


def maps_and_logits(peer, x):
    """timm's maps of stride 8, 16 and 32 and its logits, by the names that ours have."""
    outputs = {}
    hooks = [
        peer.get_submodule(info["module"]).register_forward_hook(
            lambda _, __, y, key=key: outputs.update({key: y.clone()})
        )
        for key, info in zip(("c3", "c4", "c5"), peer.feature_info[-3:], strict=True)
    ]
    with torch.no_grad():
        outputs["logits"] = peer(x)
    for hook in hooks:
        hook.remove()
    return outputs


def relative_difference(ours, theirs):
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("hw", [(224, 224), (192, 192), (161, 161), (96, 129)], ids=str)
def test_maps_and_logits(peer, hw):
    net = with_weights_of(peer, padding="symmetric", norm_eps=1e-5)
    x = torch.randn(2, 3, *hw, generator=torch.Generator().manual_seed(1))
    theirs = maps_and_logits(peer, x)
    with torch.no_grad():
        ours = {**net.forward_features(x), "logits": net(x)}
    assert list(ours) == list(theirs) == ["c3", "c4", "c5", "logits"]
    for key in ours:
        assert ours[key].std() > 0.1  # the comparison would mean nothing on dead maps
        assert relative_difference(ours[key], theirs[key]) < TOLERANCE, key


@pytest.mark.parametrize(
    "wrong", [{"padding": "same"}, {"activation": "relu"}, {"norm_eps": 1e-3}, {"residual": True}], ids=str
)
def test_a_wrong_option_shows(peer, wrong):
    """The comparison tells apart every option that no weight file would reveal."""
    net = with_weights_of(peer, **{"padding": "symmetric", "norm_eps": 1e-5, **wrong})
    x = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert relative_difference(net(x), peer(x)) > 10 * TOLERANCE


def test_same_channels_strides_and_parameters(peer):
    net = create_backbone("a100")
    theirs = [(info["num_chs"], info["reduction"]) for info in peer.feature_info[-3:]]
    assert [(info.channels, info.stride) for info in net.feature_info] == theirs
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in peer.parameters()) == 4_231_976
    assert net.num_features == peer.num_features


def test_pooled_vector(peer):
    net = with_weights_of(peer, padding="symmetric", norm_eps=1e-5)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        theirs = peer.forward_head(peer.forward_features(x), pre_logits=True)
        ours = net.forward_head(net.forward_features(x)["c5"], pre_logits=True)
    assert relative_difference(ours, theirs) < TOLERANCE
