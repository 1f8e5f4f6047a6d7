import numpy as np
import pytest
import torch

from apps.finegrained.model.cam import class_activation_maps, draw_activations, explain, overlay
from apps.finegrained.model.classifier import Classifier
from backbone.mobilenet_v1 import create_backbone


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    network = create_backbone("a025", num_classes=4).eval()
    torch.nn.init.normal_(network.classifier.weight)
    torch.nn.init.normal_(network.classifier.bias)
    return Classifier(network=network, backbone="a025", resolution=96, class_names=list("abcd"))


def test_the_mean_of_the_map_and_the_bias_are_the_logit(classifier):
    images = torch.randint(256, (3, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([2, 0, 2])
    maps = explain(classifier, images, classes)
    assert maps.shape == (3, 3, 3)
    logits = classifier.logits(images)
    bias = classifier.network.classifier.bias.detach()
    expected = logits[torch.arange(3), classes]
    assert expected.std() > 0.01
    torch.testing.assert_close(maps.mean((1, 2)) + bias[classes], expected, rtol=1e-4, atol=1e-4)


def test_each_photo_has_the_map_of_its_own_class():
    features = torch.zeros(2, 2, 1, 2)
    features[0, 0, 0, 0], features[1, 1, 0, 1] = 5, 7
    weight = torch.tensor([[1.0, 10.0], [-1.0, 2.0], [3.0, 3.0]])
    maps = class_activation_maps(features, weight, torch.tensor([1, 0]))
    assert maps.tolist() == [[[-5, 0]], [[0, 70]]]


def test_the_colours_are_red_where_the_map_is_high_and_blue_where_it_says_nothing():
    image = np.full((40, 60, 3), 100, np.uint8)
    shown = overlay(image, np.array([[-9.0, 4.0]]), strength=1.0)
    red, green, blue = shown[20, 58].astype(int)
    assert red > 2 * blue and red > 2 * green
    red, green, blue = shown[20, 1].astype(int)
    assert blue > red and blue > green
    assert (overlay(image, np.array([[-9.0, 4.0]]), strength=0.0) == image).all()
    nothing = overlay(image, np.array([[-9.0, -4.0]]), strength=1.0)
    assert (nothing == shown[20, 0]).all()
    assert (image == 100).all()


def test_red_means_the_same_for_all_classes_of_a_photo(classifier):
    image = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    with torch.no_grad():
        classifier.network.classifier.weight.abs_()
        classifier.network.classifier.weight[1] = classifier.network.classifier.weight[0] / 10
    strong, weak = draw_activations(classifier, image, [0, 1], side=64)
    (alone,) = draw_activations(classifier, image, [1], side=64)
    assert strong.shape == (64, 64, 3)
    assert (strong == alone).all()  # a tenth of the map, scaled by its own maximum
    assert strong[..., 0].mean() > weak[..., 0].mean() + 20
