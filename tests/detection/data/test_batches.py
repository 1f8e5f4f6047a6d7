import cv2
import numpy as np
import pytest
import torch

from apps.common.device import make_loader
from apps.common.images import stack_images
from apps.common.training.sampling import SampleKey, StepSampler
from apps.detection.data.batches import (
    Sample,
    TrainingSet,
    collate,
    make_eval_set,
    mirror,
    random_window,
    read_sample,
    warp,
)
from apps.detection.data.coco_split import ImageRecord
from apps.detection.data.load import load_split


def scene(rng: np.random.Generator) -> Sample:
    """A gray image with one white rectangle and its exact box."""
    image = np.full((120, 160, 3), 60, dtype=np.uint8)
    x, y = int(rng.integers(10, 100)), int(rng.integers(10, 70))
    w, h = int(rng.integers(20, 50)), int(rng.integers(20, 40))
    image[y : y + h, x : x + w] = 255
    box = np.array([[x / 160, y / 120, (x + w) / 160, (y + h) / 120]], dtype=np.float32)
    return Sample(image, box, np.array([1]), np.array([False]))


def box_of_white(image: np.ndarray) -> np.ndarray:
    ys, xs = np.nonzero(image[..., 0] > 180)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / len(image)


@pytest.mark.parametrize("seed", range(25))
def test_boxes_follow_the_picture_through_window_and_mirror(seed):
    rng = np.random.default_rng(seed)
    sample = scene(rng)
    warped = mirror(warp(sample, random_window(sample, rng), 128))
    assert warped.image.shape == (128, 128, 3)
    assert warped.boxes_xyxy.dtype == np.float32
    assert len(warped.boxes_xyxy) == 1
    np.testing.assert_allclose(warped.boxes_xyxy[0], box_of_white(warped.image), atol=2.5 / 128)


@pytest.mark.parametrize("seed", range(10))
def test_boxes_are_where_the_pixels_are_after_a_zoom_out(seed):
    """A box around the whole photo ends where the plain ground begins, to the pixel."""
    rng = np.random.default_rng(seed)
    photo = np.full((*rng.integers(40, 200, 2), 3), 255, np.uint8)
    sample = Sample(photo, np.array([[0, 0, 1, 1]], np.float32), np.array([1]), np.array([False]))
    side = rng.uniform(1.1, 2)
    corner = -rng.uniform(0, side - 1, 2)
    warped = warp(sample, np.concatenate((corner, corner + side)), 128)
    rows, columns = (warped.image == 255).all(2).nonzero()
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(warped.boxes_xyxy[0] * 128, seen, atol=1e-4)


def test_windows_are_of_all_kinds():
    rng = np.random.default_rng(0)
    sample = scene(rng)
    windows = np.array([random_window(sample, rng) for _ in range(400)])
    sides = windows[:, 2:] - windows[:, :2]
    whole = (windows == [0, 0, 1, 1]).all(axis=1)
    ground = (sides > 1).any(axis=1)
    assert 0.3 < whole.mean() < 0.55
    assert 0.1 < ground.mean() < 0.2
    assert (~whole & ~ground).mean() > 0.3
    assert sides.max() <= 2


def test_a_box_whose_centre_is_outside_of_the_window_goes():
    sample = Sample(
        np.zeros((100, 100, 3), np.uint8),
        np.array([[0.0, 0.0, 0.3, 0.3], [0.4, 0.4, 0.8, 0.8], [0.0, 0.0, 0.6, 0.6]], np.float32),
        np.array([1, 2, 3]),
        np.array([False, False, True]),
    )
    warped = warp(sample, np.array([0.5, 0.5, 1.0, 1.0]), 50)
    assert warped.labels.tolist() == [2, 3]  # the crowd stays as long as it shows
    np.testing.assert_allclose(warped.boxes_xyxy, [[0, 0, 0.6, 0.6], [0, 0, 0.2, 0.2]], atol=1e-6)


def test_a_window_of_less_than_a_pixel():
    warped = warp(scene(np.random.default_rng(0)), np.array([0.5, 0.5, 0.5001, 0.5001]), 32)
    assert warped.image.shape == (32, 32, 3)
    assert np.isfinite(warped.boxes_xyxy).all()


@pytest.mark.parametrize("height, width", [(1, 1), (2, 200), (300, 1), (2, 2)])
def test_a_window_at_the_edge_of_a_photo_of_few_pixels(height, width):
    image = np.full((height, width, 3), 9, np.uint8)
    sample = Sample(image, np.array([[0.0, 0, 1, 1]], np.float32), np.array([1]), np.array([False]))
    for seed in range(100):
        warped = warp(sample, random_window(sample, np.random.default_rng(seed)), 32)
        assert warped.image.shape == (32, 32, 3) and np.isfinite(warped.boxes_xyxy).all()
    assert (warp(sample, np.array([0.8, 0.8, 1.0, 1.0]), 32).image == 9).all()


def test_samples_depend_on_seed_epoch_and_item_only(tiny_coco):
    dataset = TrainingSet(load_split(tiny_coco, "train"), resolution=48)
    first = dataset[SampleKey(1, 2, 3)]
    dataset[SampleKey(1, 2, 4)]
    again = dataset[SampleKey(1, 2, 3)]
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.boxes_xyxy, again.boxes_xyxy)
    for other in (SampleKey(0, 2, 3), SampleKey(1, 3, 3)):
        assert (dataset[other].image != first.image).any()


def test_batches_are_the_same_whatever_the_number_of_workers_and_after_a_restart(tiny_coco):
    dataset = TrainingSet(load_split(tiny_coco, "train"), resolution=48)

    def batches(num_workers, start_step=0):
        sampler = StepSampler(len(dataset), batch_size=3, num_steps=5, start_step=start_step, seed=7)
        return list(make_loader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=num_workers))

    alone, two = batches(0), batches(2)
    late = batches(2, start_step=3)
    assert len(alone) == len(two) == 5
    for (images, targets), (images2, targets2) in zip(alone + alone[3:], two + late, strict=True):
        assert torch.equal(images, images2)
        assert torch.equal(targets.boxes_xyxy, targets2.boxes_xyxy)
        assert torch.equal(targets.labels, targets2.labels)


def test_every_image_is_drawn_once_in_an_epoch():
    keys = [key for batch in StepSampler(7, batch_size=4, num_steps=7, seed=0) for key in batch]
    for epoch in range(4):
        assert sorted(key.item for key in keys if key.epoch == epoch) == list(range(7))
    assert [d.item for d in keys[:7]] != [d.item for d in keys[7:14]]


def test_collate_is_channels_last_and_pads(tiny_coco):
    dataset = TrainingSet(load_split(tiny_coco, "train"), resolution=40, augment="none")
    samples = [dataset[SampleKey(0, 0, item)] for item in range(3)]
    samples[1] = samples[1]._replace(
        boxes_xyxy=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64), is_crowd=np.zeros(0, bool)
    )
    images, targets = collate(samples)
    assert images.shape == (3, 3, 40, 40)
    assert images.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert (targets.labels > 0).sum(dim=1).tolist() == [len(sample.labels) for sample in samples]
    np.testing.assert_array_equal(images[0].permute(1, 2, 0).numpy(), samples[0].image)


def test_colours_are_rgb(tiny_coco):
    split = load_split(tiny_coco, "train")
    record = next(r for r in split.records if r.labels.tolist() == [1])
    x0, y0, x1, y1 = record.boxes_xyxy_px[0].astype(int)
    assert read_sample(record).image[(y0 + y1) // 2, (x0 + x1) // 2].tolist() == [230, 20, 20]


def test_eval_images_come_in_order_and_unchanged(tiny_coco):
    split = load_split(tiny_coco, "val")
    dataset = make_eval_set(split, resolution=96)
    images = torch.cat(list(make_loader(dataset, batch_size=3, collate_fn=stack_images, num_workers=2)))
    assert len(images) == 4
    for record, image in zip(split.records, images, strict=True):
        expected = cv2.resize(read_sample(record).image, (96, 96), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_an_image_of_another_size_than_annotated(tiny_coco):
    record = load_split(tiny_coco, "val").records[0]
    with pytest.raises(ValueError, match=r"001\.png has 96x64 pixels, its annotation says 90x64"):
        read_sample(record._replace(width=90))


def jpeg_with_orientation(image: np.ndarray, orientation: int) -> bytes:
    """A JPEG whose EXIF tag says how to turn it."""
    data = cv2.imencode(".jpg", image)[1].tobytes()
    tiff = (
        b"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01" + bytes([0, orientation, 0, 0]) + bytes(4)
    )
    exif = b"Exif\x00\x00" + tiff
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


@pytest.mark.parametrize(("width", "height"), [(40, 60), (60, 40)])
def test_a_photo_turned_by_exif_is_read_as_it_was_annotated(tmp_path, width, height):
    """Annotation tools differ: some see the photo as stored (60x40), some as shown (40x60)."""
    (tmp_path / "photo.jpg").write_bytes(jpeg_with_orientation(np.zeros((40, 60, 3), np.uint8), 6))
    record = ImageRecord(
        1, tmp_path / "photo.jpg", width, height, np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros(0, bool)
    )
    assert read_sample(record).image.shape == (height, width, 3)
