"""--group-by: photos of one video, day or shop stay on one side, and classes get their shares as far as that allows."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from apps.common.cli import run_command
from apps.common.data.groups import choose_stratified, find_groups, missing_in_val
from apps.common.pretrained import TENSORFLOW_STYLE
from apps.detection.data.load import load_splits
from apps.faceattr.data.load import load_splits as load_faces
from apps.finegrained import eval as finegrained_eval
from apps.finegrained.data.load import load_splits as load_labelled
from apps.finegrained.model.classifier import Classifier
from apps.finegrained.model.create import create_classifier
from tests.conftest import draw_tiny_coco, write_coco
from tests.faceattr.blob_faces import draw_faces


def noise(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    return path


@pytest.fixture
def shops(tmp_path: Path) -> Path:
    """Two classes in six shops, twelve photos of each class: shopN/class_dDAY_number.png, and a CSV file."""
    rows = []
    for label in ("apple", "pear"):
        for i in range(12):
            rows.append([f"shop{i // 2}/{label}_d{i % 3}_{i}.png", label])
            noise(tmp_path / "photos" / str(rows[-1][0]), 100 * (label == "pear") + i)
    with (tmp_path / "photos" / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "label"], *rows])
    return tmp_path / "photos" / "list.csv"


def named(groups: list[list[int]], paths: list[Path]) -> set[frozenset[str]]:
    return {frozenset(f"{paths[i].parent.name}/{paths[i].name}" for i in group) for group in groups}


def test_folders_names_and_columns_make_groups(shops: Path, tmp_path: Path) -> None:
    paths, shops = sorted(shops.parent.rglob("apple*.png")), shops.parent
    assert find_groups(paths, shops, None) == find_groups(paths, shops, "none") == []
    by_folder = named(find_groups(paths, shops, "folder"), paths)
    assert len(by_folder) == 6 and all(len({name.split("/")[0] for name in group}) == 1 for group in by_folder)
    assert named(find_groups(paths, shops, "folder:1"), paths) == by_folder
    assert named(find_groups(paths, shops.parent, "folder:2"), paths) == by_folder
    assert len(find_groups(paths, shops.parent, "folder:1")) == 1  # all are in photos/
    by_day = named(find_groups(paths, shops, r"name:_(d\d)_"), paths)
    assert sorted(len(group) for group in by_day) == [4, 4, 4]
    assert named(find_groups(paths, shops, r"name:d\d"), paths) == by_day
    with (tmp_path / "groups.csv").open("w", newline="") as file:
        rows = [[f"{path.parent.name}/{path.name}", path.name.split("_")[1]] for path in paths[:-1]]
        csv.writer(file, delimiter=";").writerows([["file", "Day"], *rows])
    by_table = named(find_groups(paths, shops, f"{tmp_path / 'groups.csv'}:day"), paths)
    assert sum(map(len, by_table)) == 11 and all(any(group <= day for day in by_day) for group in by_table)


@pytest.mark.parametrize(
    ("group_by", "message"),
    [
        ("folder:", "--group-by must be folder, folder:LEVEL, name:PATTERN or FILE.csv:COLUMN; got 'folder:'"),
        ("folder:0", "must be folder"),
        ("name:", "must be folder"),
        ("name:(", r"'\(' is no regular expression"),
        ("name:a{99999999999}", "is no regular expression"),
        ("name:zebra", "--group-by name:zebra fits none of 24 photos"),
        ("missing.csv:day", "missing.csv"),
        ("TABLE.csv:dya", "it has no column 'dya'; did you mean 'day'"),
        ("OTHER.csv:day", "it has no column file, but "),
        ("EMPTY.csv:day", "it has no column file: its first line is empty"),
    ],
)
def test_what_makes_no_groups_is_told(shops: Path, tmp_path: Path, group_by: str, message: str) -> None:
    (tmp_path / "TABLE.csv").write_text("file,day\nx.png,1\n")
    (tmp_path / "OTHER.csv").write_text("day,shop\n1,2\n")
    (tmp_path / "EMPTY.csv").write_text("")
    group_by = group_by if group_by[:4] in ("name", "fold") else f"{tmp_path}/{group_by}"
    with pytest.raises(ValueError, match=message):
        load_labelled(shops, ("train", "val"), group_by=group_by)


def test_classes_get_their_shares_as_far_as_groups_allow() -> None:
    rng = np.random.default_rng(0)
    for seed in range(5):  # 60 groups of 1 to 8 photos, 5 classes of different frequency
        sizes = rng.integers(1, 9, 60)
        ends = np.cumsum(sizes)
        groups = [list(range(end - size, end)) for size, end in zip(sizes.tolist(), ends.tolist(), strict=True)]
        labels = np.eye(5, dtype=int)[rng.choice(5, ends[-1], p=[0.5, 0.25, 0.15, 0.07, 0.03])]
        names = [f"{i}.jpg" for i in range(ends[-1])]
        chosen = choose_stratified(names, labels, groups, 0.2, seed)
        assert chosen == choose_stratified(names, labels, groups, 0.2, seed)
        assert all(set(group) <= chosen or not set(group) & chosen for group in groups)
        share = labels[sorted(chosen)].sum(0) / labels.sum(0)
        assert np.abs(share[:3] - 0.2).max() < 0.1 and (share < 0.7).all()
        assert (labels.sum(0) - labels[sorted(chosen)].sum(0) > 0).all()  # train keeps each class


def test_a_class_of_one_group_stays_in_train_and_is_named() -> None:
    labels = np.array([[1, 0]] * 6 + [[0, 1]] * 4)
    chosen = choose_stratified(list("abcdefghij"), labels, [[0, 1], [2, 3], [4, 5], [6, 7, 8, 9]], 0.3, 0)
    assert len(chosen) == 2 and max(chosen) < 6
    assert missing_in_val(["dog", "owl"], labels, chosen) == "; no group of owl could be taken"
    with pytest.raises(ValueError, match="puts all 3 photos into one group"):
        choose_stratified(list("abc"), labels[:3], [[0, 1, 2]], 0.3, 0)
    with pytest.raises(ValueError, match="2 groups, each with all photos of a class"):  # such as class folders
        choose_stratified(list("abcdefghij"), labels, [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9]], 0.3, 0)
    halves = [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]  # owl's group is not the smallest, but dogs' are above their share
    assert choose_stratified(list("abcdefghij"), labels, halves, 0.05, 0) in ({0, 1, 2}, {3, 4, 5})
    few = [[0, 1, 2], [3, 4, 5, 6, 7, 8], [9]]  # the smallest has the only owl
    assert choose_stratified(list("abcdefghij"), np.array([[1, 0]] * 9 + [[0, 1]]), few, 0.05, 0) == {0, 1, 2}


def test_a_classifiers_split_does_not_part_a_shop(shops: Path) -> None:
    train, val = load_labelled(shops, ("train", "val"), val_fraction=0.3, group_by="folder:1")
    sides = [{str(photo.path.parent) for photo in split.photos} for split in (train, val)]
    assert not sides[0] & sides[1] and min(val.counts) >= 2
    by_day = load_labelled(shops, ("train", "val"), val_fraction=0.3, group_by=r"name:d\d")
    sides = [{photo.path.name.split("_")[1] for photo in split.photos} for split in by_day]
    assert not sides[0] & sides[1] and by_day[1].counts == [4, 4]
    assert r"groups by name:d\d together" in by_day[1].describe()


def test_a_detectors_split_does_not_part_a_video(tmp_path: Path) -> None:
    images = []
    for i in range(24):
        noise(tmp_path / "train" / f"video{i // 4}_{i}.png", i)
        images.append({"id": i, "file_name": f"video{i // 4}_{i}.png", "width": 50, "height": 40})
    box = {"bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
    notes = [{"id": i, "image_id": i, "category_id": (3, 7)[i // 12], **box} for i in range(24)]
    write_coco(tmp_path, "train", images, notes)
    train, val = load_splits(tmp_path, ("train", "val"), val_fraction=0.3, group_by=r"name:video\d")
    sides = [{record.path.name.split("_")[0] for record in split.records} for split in (train, val)]
    assert not sides[0] & sides[1]
    assert sorted(np.bincount([int(record.labels[0]) for record in val.records], minlength=3)) == [0, 4, 4]


def test_faces_of_one_day_stay_together(tmp_path: Path) -> None:
    with (tmp_path / "attributes.csv").open("w", newline="") as file:
        rows = [[f"day{i // 4}_{i}.png", i % 2] for i in range(40)]
        csv.writer(file).writerows([["file", "Smiling"], *rows])
    for i, (name, _) in enumerate(rows):
        noise(tmp_path / "images" / str(name), i)
    splits = load_faces(
        [tmp_path], ("train", "val", "test"), val_fraction=0.2, test_fraction=0.2, group_by=r"name:day\d"
    )
    sides = [{path.name.split("_")[0] for path in split.paths} for split in splits]
    assert [len(side) for side in sides] == [6, 2, 2] and len(set.union(*sides)) == 10


def test_photos_without_a_group_are_counted(shops: Path, tmp_path: Path) -> None:
    (tmp_path / "some.csv").write_text("file,day\napple_d0_0.png,1\napple_d1_1.png,1\n,2\n")
    train, val = load_labelled(shops, ("train", "val"), val_fraction=0.3, group_by=f"{tmp_path}/some.csv:day")
    assert "some.csv:day together (22 of 24 photos have no group)" in val.describe() + train.describe()


def test_groups_are_refused_where_the_data_has_a_val_of_its_own(shops: Path, tmp_path: Path) -> None:
    """They would change nothing."""
    given = {"group_by": "folder:1"}
    lines = shops.read_text().splitlines()
    shops.write_text(
        "\n".join(["file,label,split", *(f"{one},{('train', 'val')[i % 2]}" for i, one in enumerate(lines[1:]))])
    )
    with pytest.raises(ValueError, match="--group-by folder:1 is for a val that is taken out of train, and this data"):
        load_labelled(shops, ("train", "val"), **given)
    with pytest.raises(ValueError, match="has a val of its own"):
        load_splits(draw_tiny_coco(tmp_path / "tiny"), ("train",), **given)
    load_splits(tmp_path / "tiny", ("train",), group_by="none")
    with pytest.raises(ValueError, match="has a val of its own"):
        load_faces([draw_faces(tmp_path / "faces", each=2)], ("train", "val"), **given)


def test_eval_asks_for_the_grouping_of_the_run(shops: Path, tmp_path: Path, capsys) -> None:
    network = create_classifier("a025", num_classes=2, style=TENSORFLOW_STYLE)
    model = Classifier(network=network.eval(), backbone="a025", resolution=32, class_names=["apple", "pear"])
    model.save(tmp_path / "run" / "best", metrics={})
    (tmp_path / "run" / "config.json").write_text(
        json.dumps({"app": "finegrained", "config": {"group_by": "folder:1"}})
    )
    args = ["--checkpoint", str(tmp_path / "run"), "--data", str(shops), "--num-workers", "0"]
    with pytest.raises(SystemExit) as stop:
        run_command(finegrained_eval.evaluate, finegrained_eval.Config, args)
    assert (
        stop.value.code == 2 and "was trained with --group-by 'folder:1': give it here, too" in capsys.readouterr().err
    )
    run_command(finegrained_eval.evaluate, finegrained_eval.Config, [*args, "--group-by", "folder:1"])
    assert "groups by folder:1 together" in capsys.readouterr().out
