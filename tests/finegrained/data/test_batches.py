"""Photos on their way to the network: crops, changes, mixing, balance."""

import cv2
import numpy as np
import pytest
import torch

from apps.common.device import make_loader
from apps.common.images import stack_images
from apps.common.training.sampling import SampleKey, StepSampler
from apps.finegrained.data.batches import (
    TrainingSet,
    balanced,
    class_weights,
    collate,
    make_eval_set,
    random_crop,
    to_square,
)
from apps.finegrained.data.load import Photo, load_split
from apps.finegrained.data.mix import Mix


@pytest.fixture
def photos(tiny_photos) -> list[Photo]:
    return load_split(str(tiny_photos), "train").photos


def test_the_eval_transform_is_the_central_square():
    image = np.zeros((100, 200, 3), dtype=np.uint8)
    image[25:75, 75:125] = 255  # the central half of the short side
    assert to_square(image, 50, 0.5).min() == 255
    whole = to_square(image, 100, 1.0)
    assert whole.shape == (100, 100, 3)
    assert whole[30:70, 30:70].min() == 255
    assert whole[:20].max() == 0
    assert to_square(image[:1, :1], 32, 0.875).shape == (32, 32, 3)


def test_crops_stay_inside_and_have_the_area_they_should():
    """Rows and columns are numbered by their colour, so that a crop's edges can be read off it."""
    ramp = np.linspace(0, 250, 251).astype(np.uint8)
    image = np.stack((*np.meshgrid(ramp, ramp), np.zeros((251, 251), np.uint8)), axis=-1).astype(np.uint8)
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(300):
        crop = random_crop(image, rng, 251, min_area=0.25).astype(float)
        width, height = crop[125, -1, 0] - crop[125, 0, 0] + 1, crop[-1, 125, 1] - crop[0, 125, 1] + 1
        areas.append(width * height / 251**2)
        assert 0.72 < width / height < 1.39
    assert 0.23 < min(areas) < 0.3
    assert max(areas) > 0.85


@pytest.mark.parametrize("augment", ["none", "mirror", "light", "full"])
def test_samples_are_functions_of_their_draw(photos, augment):
    dataset = TrainingSet(photos, resolution=48, crop=0.875, augment=augment)
    again = TrainingSet(photos, resolution=48, crop=0.875, augment=augment)
    for item in range(len(photos)):
        image, label = dataset[SampleKey(0, 1, item)]
        assert image.shape == (48, 48, 3)
        assert image.dtype == np.uint8
        assert label == photos[item].label
        np.testing.assert_array_equal(image, again[SampleKey(0, 1, item)][0])
    differ = [
        not np.array_equal(dataset[SampleKey(0, 1, i)][0], dataset[SampleKey(0, 2, i)][0]) for i in range(len(photos))
    ]
    expected = {"none": 0, "mirror": range(1, len(photos)), "light": len(photos), "full": len(photos)}[augment]
    assert sum(differ) in expected if augment == "mirror" else sum(differ) == expected


def test_batches_do_not_depend_on_the_workers(photos):
    dataset = TrainingSet(photos, resolution=48, crop=0.875, augment="full")
    sampler = StepSampler(len(dataset), batch_size=5, num_steps=4, seed=0)
    alone, beside = (
        list(make_loader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=workers)) for workers in (0, 2)
    )
    for (images, labels), (images2, labels2) in zip(alone, beside, strict=True):
        assert torch.equal(images, images2)
        assert torch.equal(labels, labels2)
    assert alone[0][0].is_contiguous(memory_format=torch.channels_last)


def test_eval_batches_keep_the_order(photos):
    dataset = make_eval_set(photos, resolution=40, crop=1.0)
    loader = make_loader(dataset, batch_size=4, collate_fn=stack_images, num_workers=1)
    images = torch.cat(list(loader)).permute(0, 2, 3, 1).numpy()
    assert len(images) == len(photos)
    assert all(np.array_equal(images[i], dataset[i]) for i in range(len(photos)))


def test_mixup_mixes_pixels_and_labels_alike():
    mix = Mix(0.7, None)
    images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    mixed, targets = mix.images(images), mix.targets(labels, 3)
    torch.testing.assert_close(mixed[1], 0.7 * images[1] + 0.3 * images[0])
    torch.testing.assert_close(targets[1], torch.tensor([0.3, 0.7, 0.0]))
    torch.testing.assert_close(targets.sum(1), torch.ones(4))


def test_cutmix_labels_follow_the_pasted_area():
    """To the pixel, as in the CutMix paper's code."""
    images = torch.stack([torch.full((3, 50, 50), float(i)) for i in range(3)])
    shares = []
    for step in range(60):
        mix = Mix.random(0, step, mixup=0.0, cutmix=1.0, side=50)
        own = (mix.images(images)[1] == 1).float().mean().item()
        assert own == pytest.approx(mix.share, abs=1e-6)
        shares.append(own)
    assert min(shares) < 0.3
    assert max(shares) > 0.9


def test_mixing_is_drawn_by_seed_and_step():
    ways = [Mix.random(0, step, mixup=0.2, cutmix=1.0, side=64) for step in range(40)]
    assert ways == [Mix.random(0, step, mixup=0.2, cutmix=1.0, side=64) for step in range(40)]
    assert 5 < sum(mix.box is None for mix in ways) < 35  # each of the two is drawn
    assert Mix.random(0, 0, mixup=0.0, cutmix=0.0, side=64).share == 1


def test_balanced_classes(photos):
    uneven = [photo for i, photo in enumerate(photos) if photo.label != 2 or i % 3 == 0]
    counts = np.bincount([photo.label for photo in balanced(uneven)])
    assert counts.tolist() == [6, 6, 6]
    assert set(balanced(uneven)) == set(uneven)
    labels = [0, 0, 0, 2]
    weights = class_weights(labels, 4)
    torch.testing.assert_close(weights, torch.tensor([4 / 6, 0.0, 2.0, 0.0]))
    assert weights[labels].mean().item() == pytest.approx(1)


def test_gray_and_transparent_photos_are_photos_too(tmp_path):
    cv2.imwrite(str(tmp_path / "gray.png"), np.full((50, 40), 90, np.uint8))
    cv2.imwrite(str(tmp_path / "clear.png"), np.full((50, 40, 4), 90, np.uint8))
    dataset = make_eval_set(
        [Photo(tmp_path / name, 0) for name in ("gray.png", "clear.png")], resolution=32, crop=0.875
    )
    assert (dataset[0] == 90).all() and (dataset[1] == round(255 - (255 - 90) * 90 / 255)).all()  # on white
