"""Students and teachers: any width, the full-convolution twin, torchvision's classifiers."""

import json

import pytest
import torch
import torchvision

from apps.common.pretrained import TENSORFLOW_STYLE
from apps.faceattr.model.create import check_size, create_network, num_pooled_features, parse_width, pooled_features
from apps.faceattr.model.pretrained import load_pretrained, start_tagger
from apps.faceattr.model.tagger import Tagger

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("backbone", "features"),
    [("a025", 256), ("resnet18", 512), ("squeezenet1_1", 512), ("mobilenet_v3_small", 1024), ("vgg11", 4096)],
)
def test_one_logit_for_each_attribute_and_what_enters_the_head(backbone, features):
    network = create_network(backbone, num_attributes=5, style=TENSORFLOW_STYLE).eval()
    with torch.no_grad(), pooled_features(network) as seen:
        assert network(torch.randn(2, 3, 64, 64)).shape == (2, 5)
    assert seen[0].shape == (2, features)
    assert num_pooled_features(network) == features
    with pooled_features(network) as later:
        pass
    assert later == []


def test_the_head_sizes_of_the_paper():
    """Table 12's parameters, in millions, with 40 attributes; the table rounds up 3.25 and down 0.22."""
    sizes = {"a100": 3.25, "a050": 0.84, "a025": 0.22}
    for backbone, millions in sizes.items():
        network = create_network(backbone, num_attributes=40, style=TENSORFLOW_STYLE)
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize(("backbone", "conv"), [("a025", "full"), ("resnet18", "separable")])
def test_a_checkpoint_rebuilds_any_of_them(tmp_path, backbone, conv):
    start = load_pretrained(backbone, "none", conv=conv)
    tagger, _ = start_tagger(
        backbone, start, resolution=64, attributes=["Bald", "Smiling"], photos=[], device=CPU, conv=conv
    )
    tagger.network.eval()
    tagger.thresholds = [0.3, 0.6]
    tagger.save(tmp_path / "best", metrics={})
    again = Tagger.load(tmp_path / "best", device=CPU)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(tagger.logits(images), again.logits(images))
    assert again.thresholds == [0.3, 0.6]
    assert again.attributes == ["Bald", "Smiling"]
    again.temperatures = [2.0, 1.0]
    torch.testing.assert_close(again.probs(images)[:, 0], (again.logits(images)[:, 0] / 2).sigmoid())


@pytest.mark.parametrize(
    ("other", "millions"), [("regnet_y_128gf", "644.8"), ("vit_h_14", "633.5"), ("vgg11", "132.9")]
)
def test_a_network_far_larger_than_the_weights_is_not_built(tmp_path, monkeypatch, other, millions):
    tagger, _ = start_tagger("resnet18", load_pretrained("resnet18", "none"), ["Bald"], [], 64, CPU)
    tagger.save(tmp_path / "best", metrics={})
    about = json.loads((tmp_path / "best/model.json").read_text())
    (tmp_path / "best/model.json").write_text(json.dumps({**about, "backbone": other}))
    monkeypatch.setattr(torchvision.models, "get_model", lambda *_, **options: pytest.fail("built"))
    with pytest.raises(
        ValueError, match=rf"best .*own weights: {other} has {millions} million weights, here are 11\.2$"
    ):
        Tagger.load(tmp_path / "best", device=CPU)


def test_the_numbers_by_which_networks_are_refused_are_those_that_they_have():
    for name in torchvision.models.list_models(module=torchvision.models):
        meta = torchvision.models.get_model_weights(name).DEFAULT.meta
        assert 0 < meta["num_params"] < 1e9, name
    for name in ("squeezenet1_1", "mobilenet_v3_small"):
        network = create_network(name, num_attributes=1, style=TENSORFLOW_STYLE)
        check_size(name, network.state_dict())


def test_wrong_names():
    assert parse_width("resnet50") is None
    assert parse_width("a075") == 0.75
    with pytest.raises(ValueError, match=r"did you mean resnet50\?"):
        parse_width("resnet-50")
    with pytest.raises(ValueError, match="a010 to a200"):
        parse_width("a999")
    with pytest.raises(ValueError, match="num_attributes must be 1 or more, got 0"):
        create_network("a025", num_attributes=0, style=TENSORFLOW_STYLE)
    with pytest.raises(ValueError, match="does not exist for a025 with full convolutions"):
        load_pretrained("a025", "imagenet", conv="full")
    with pytest.raises(ValueError, match="does not exist for resnet18"):
        load_pretrained("resnet18", "coco")
    with pytest.raises(ValueError, match="resolution must be 32 pixels or more, got 8"):
        start_tagger("a025", load_pretrained("a025", "none"), ["Bald"], [], 8, CPU)
