"""Photos that show nearly the same: made pairs are found, others are not, and they stay on one side of a split."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from apps.common.data import near
from apps.common.data.near import difference_hash, find_near, near_pairs, shared_detail
from apps.common.data.near_findings import near_findings
from apps.common.data.photos import evenly_spaced, find_photos, inspect_photos
from apps.detection.data.load import load_splits
from apps.finegrained.data.load import load_splits as load_labelled
from benchmarks.near_duplicates import CHANGES
from demos.chooser import example_pictures
from tests.conftest import write_coco


def scene(seed: int) -> np.ndarray:
    """A picture (240, 320, 3) with shapes of many sizes, as photos have."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    for _ in range(60):
        centre, axes = rng.integers(0, 320, 2).tolist(), rng.integers(4, 40, 2).tolist()
        cv2.ellipse(image, centre, axes, int(rng.integers(180)), 0, 360, rng.integers(0, 256, 3).tolist(), -1)
    return image


def save(path: Path, image: np.ndarray, quality: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return path


@pytest.mark.parametrize("name", [name for name in CHANGES if "90 %" not in name])
def test_a_changed_photo_is_found_among_others(tmp_path: Path, name: str) -> None:
    quality, change = CHANGES[name]
    rng, found = np.random.default_rng(0), 0
    for seed in range(8):
        paths = [save(tmp_path / f"{seed}/{i}.png", scene(100 * seed + i)) for i in range(4)]
        paths.append(save(tmp_path / f"{seed}/changed.jpg", change(scene(100 * seed + 2), rng), quality))
        pairs = near_pairs(paths, progress=False)
        assert set(pairs) <= {(2, 4)}
        found += len(pairs)
    assert found >= 7


def test_what_shares_only_its_coarse_shades_is_not_the_same(tmp_path: Path) -> None:
    sky = np.linspace(60, 200, 240)[:, None, None] * np.ones((1, 320, 3))
    paths = []
    for seed in range(6):  # a horizon and something small on it
        rng = np.random.default_rng(seed)
        image = sky.copy().astype(np.uint8)
        for _ in range(4):
            x, y, w = rng.integers(0, 280), rng.integers(100, 200), int(rng.integers(10, 60))
            image[y : y + w // 2, x : x + w] = rng.integers(0, 256, 3)
        paths.append(save(tmp_path / f"{seed}.jpg", image))
    assert near_pairs(paths, progress=False) == []


def test_of_real_photos_the_made_pairs_alone_are_found(shared: Path, tmp_path: Path) -> None:
    every = find_photos(shared / "data" / "detection" / "voc2007")
    photos = [every[i] for i in evenly_spaced(len(every), 60)]
    made = []
    for i in (3, 17, 42):
        image = cv2.imread(str(photos[i]))
        made.append((i, save(tmp_path / f"{i}.jpg", image[4:-4, 6:-6], 50)))
    pairs = near_pairs([*photos, *(path for _, path in made)], progress=False)
    assert pairs == [(i, len(photos) + k) for k, (i, _) in enumerate(made)]


def test_the_hash_is_of_neighbouring_cells() -> None:
    ramp = np.tile(np.arange(90, dtype=np.uint8), (80, 1))
    assert difference_hash(ramp) == 2**64 - 1 and difference_hash(ramp[:, ::-1]) == 0
    image = np.zeros((8, 9), np.uint8)
    image[0, 1] = 9  # the second cell of the first row is brighter than the first
    assert difference_hash(image) == 1 << 63


def test_one_image_lies_on_a_moved_one() -> None:
    image = cv2.cvtColor(scene(0), cv2.COLOR_BGR2GRAY)
    one, other = (cv2.resize(part, (64, 64)).astype(np.float32) for part in (image[:-8, :-10], image[8:, 10:]))
    assert shared_detail(one, other) > 0.9
    assert shared_detail(one, np.ascontiguousarray(other[:, ::-1])) < 0.5
    assert shared_detail(one, np.zeros_like(one)) < 0.5


def test_chains_are_one_group_and_what_cannot_be_read_is_in_none(tmp_path: Path) -> None:
    film = scene(5)
    frames = [save(tmp_path / f"{i}.jpg", np.roll(film, 6 * i, axis=1)[:, 40:-10]) for i in range(4)]
    (tmp_path / "text.jpg").write_text("no photo")
    plain = [save(tmp_path / f"plain{i}.png", np.full((80, 80, 3), 90 + i, np.uint8)) for i in range(2)]
    paths = [*frames, tmp_path / "text.jpg", tmp_path / "missing.jpg", *plain, save(tmp_path / "z.jpg", scene(6))]
    assert find_near(paths) == [[0, 1, 2, 3]]


def test_the_answer_is_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "cache"))
    paths = [save(tmp_path / "a.jpg", scene(0)), save(tmp_path / "b.jpg", scene(0), 40)]
    assert find_near(paths) == [[0, 1]]
    monkeypatch.setattr(near, "near_pairs", None)  # it is not asked again
    assert find_near(paths) == [[0, 1]]
    monkeypatch.undo()
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "cache"))
    save(paths[1], scene(1))
    assert find_near(paths) == []
    for kept in (tmp_path / "cache" / "near").iterdir():
        kept.write_text("[[0, 7]]")  # another's, or damaged
    assert find_near(paths) == []


def test_pairs_are_those_of_a_plain_loop_wherever_blocks_end(monkeypatch) -> None:
    """Hashes of nearby numbers of ones, and cells of few shades, so that many are close and some are alike."""
    rng, count = np.random.default_rng(3), 90
    hashes = rng.integers(0, 2**64, (count, 3), dtype=np.uint64) & np.uint64(0x3FFFFF)
    cells = rng.integers(0, 256, (count, 3, 16, 16), dtype=np.uint8)
    cells[45:] = cells[:45] // 2 + rng.integers(0, 60, cells[:45].shape, dtype=np.uint8)
    wanted = set()
    for a in range(count):
        for b in range(a + 1, count):
            views = ((0, 0), (0, 1), (1, 0), (0, 2), (2, 0))
            bits = min(int(hashes[a, v] ^ hashes[b, w]).bit_count() for v, w in views)
            alike = max(np.corrcoef(cells[a, v].ravel(), cells[b, w].ravel())[0, 1] for v, w in views)
            wanted |= {(a, b)} if bits <= 12 and alike > 0.7 else set()
    monkeypatch.setattr(near, "ROWS", 7)
    monkeypatch.setattr(near, "COLUMNS", 20)
    found = list(near._alike(hashes, cells, progress=False))
    assert set(found) == wanted and len(found) == len(wanted) > 20


# ---- what it is for --------------------------------------------------------------------------------------------


def test_findings_tell_splits_apart_and_show_the_groups(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.jpg", scene(i // 2), 90 - 40 * (i % 2)) for i in range(6)]
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(paths[4].read_bytes())
    paths = [*paths[:5], copy]  # 4 and 5 are copies, which are other findings
    splits = ["train", "val", "train", "train", "train", "val"]
    facts = inspect_photos(paths, progress=False)
    across, within = near_findings([p.name for p in paths], splits, facts, tmp_path / "near.jpg")
    assert (across.level, across.cases) == ("error", ["0.jpg ~ 1.jpg"])
    assert (within.level, within.cases) == ("note", ["2.jpg ~ 3.jpg"])
    assert cv2.imread(str(tmp_path / "near.jpg")).shape[1] == 1600
    assert not any(f.cases for f in near_findings(["a"], ["train"], facts[:1], tmp_path / "near.jpg"))
    assert not (tmp_path / "near.jpg").exists()


def bursts(write: Callable[[int, int, np.ndarray], Path], count: int = 10, length: int = 4) -> None:
    """`count` bursts of `length` frames each."""
    for burst in range(count):
        film = scene(burst)
        for i in range(length):
            write(burst, i, np.roll(film, 4 * i, axis=1)[:, 20:])


def test_bursts_stay_on_one_side_of_a_classifiers_split(tmp_path: Path) -> None:
    bursts(lambda burst, i, image: save(tmp_path / f"class{burst % 2}" / f"{burst}_{i}.jpg", image))
    train, val = load_labelled(tmp_path, ("train", "val"), val_fraction=0.3)
    sides = [{photo.path.name.split("_")[0] for photo in split.photos} for split in (train, val)]
    assert len(val.photos) in (8, 12, 16) and not sides[0] & sides[1]
    assert "near-duplicates together" in val.describe()


def test_bursts_stay_on_one_side_of_a_detectors_split(tmp_path: Path) -> None:
    images: list[dict] = []

    def write(burst: int, i: int, image: np.ndarray) -> Path:
        size = {"width": image.shape[1], "height": image.shape[0]}
        images.append({"id": len(images) + 1, "file_name": f"{burst}_{i}.jpg", **size})
        return save(tmp_path / "train" / f"{burst}_{i}.jpg", image)

    bursts(write)
    box = {"category_id": 3, "bbox": [5, 5, 50, 50], "area": 2500, "iscrowd": 0}
    write_coco(tmp_path, "train", images, [{"id": i, "image_id": image["id"], **box} for i, image in enumerate(images)])
    train, val = load_splits(tmp_path, ("train", "val"), val_fraction=0.2)
    sides = [{record.path.name.split("_")[0] for record in split.records} for split in (train, val)]
    assert len(val.records) == 8 and not sides[0] & sides[1]


def test_the_examples_of_the_demos_are_all_different() -> None:
    for app in ("detection", "finegrained", "faceattr"):
        assert near_pairs(example_pictures(app), progress=False) == []
