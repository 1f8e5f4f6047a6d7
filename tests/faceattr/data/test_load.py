"""Reading labelled faces as people have them, splits without leaks, and every fault named with its file."""

import csv
from pathlib import Path

import numpy as np
import pytest

from apps.faceattr.data.load import find_unlabelled, list_data, load_split, load_splits, without_known
from apps.faceattr.sample import ATTRIBUTES, make_sample


def photo(path: Path, content: str | None = None) -> Path:
    """A file that only looks like a photo by its name; unlike all others unless `content` is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if content is not None else str(path))
    return path


def table(path: Path, text: str, *, folder: str = "images") -> Path:
    """A CSV file, and a photo for each row but those named gone."""
    rows = list(csv.reader(text.strip().splitlines()))
    for row in rows[1:]:
        if "gone" not in row[0]:
            photo(path.parent / folder / row[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(",".join(row) for row in rows), encoding="utf-8-sig")
    return path


def numbered(number: int, *, header: str = "file,Smiling", row: str = "{i:03d}.jpg,1") -> str:
    return "\n".join([header, *(row.format(i=i, person=i // 4) for i in range(number))])


def celeba(root: Path, *, number: int = 10, published: bool = False) -> Path:
    """CelebA's files; `published`: in the folders in which its authors give them."""
    anno, evaluation, images = (root / name if published else root for name in ("Anno", "Eval", "Img"))
    names = [f"{i:06d}.jpg" for i in range(1, number + 1)]
    for folder in (anno, evaluation):
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        photo(images / "img_align_celeba" / name)
    rows = "".join(f"{name} {' 1' if i % 2 else '-1'} -1  1\n" for i, name in enumerate(names))
    (anno / "list_attr_celeba.txt").write_text(f"{number}\nBald Bangs Young \n{rows}")
    (anno / "identity_CelebA.txt").write_text("".join(f"{name} {100 + i // 2}\n" for i, name in enumerate(names)))
    splits = [0] * (number - 4) + [1, 1, 2, 2]
    lines = (f"{name} {split}\n" for name, split in zip(names, splits, strict=True))
    (evaluation / "list_eval_partition.txt").write_text("".join(lines))
    return root


@pytest.mark.parametrize("published", [False, True])
def test_celeba_as_its_authors_give_it(tmp_path, published):
    root = celeba(tmp_path / "my celeba", published=published)
    train, val, test = load_splits([root], ("train", "val", "test"))
    assert train.attributes == ["Bald", "Bangs", "Young"]
    assert [p.name for p in train.paths] == [f"{i:06d}.jpg" for i in range(1, 7)]
    assert train.labels.dtype == np.int8
    assert train.labels.tolist() == [[i % 2, 0, 1] for i in range(6)]
    assert train.identities == ["100", "100", "101", "101", "102", "102"]
    assert ([p.name[4:6] for p in val.paths], [p.name[4:6] for p in test.paths]) == (["07", "08"], ["09", "10"])
    assert (train.skipped, train.notes) == ([], ())
    assert train.describe() == (
        "train: 6 photos of 3 people, Bald 3 of 6, Bangs 0 of 6, Young 6 of 6; no photo with Bangs"
    )


def test_celeba_as_kaggle_gives_it(tmp_path):
    for i in range(1, 5):
        photo(tmp_path / f"img_align_celeba/img_align_celeba/{i}.jpg")
    (tmp_path / "list_attr_celeba.csv").write_text(
        "image_id,Bald,Young\n1.jpg,-1,1\n2.jpg,1,1\n3.jpg,-1,-1\n4.jpg,1,-1"
    )
    (tmp_path / "list_eval_partition.csv").write_text("image_id,partition\n1.jpg,0\n2.jpg,0\n3.jpg,1\n4.jpg,2\n")
    assert load_split([tmp_path], "train").labels.tolist() == [[0, 1], [1, 1]]
    assert load_split([tmp_path / "list_attr_celeba.csv"], "test").labels.tolist() == [[1, 0]]


@pytest.mark.parametrize("count", ["9" * 5000, "-5", "\u00b2", "1e3"])
def test_a_number_of_photos_that_is_none_is_no_head_of_celebas_list(tmp_path, count):
    root = celeba(tmp_path)
    lines = (root / "list_attr_celeba.txt").read_text().splitlines()
    (root / "list_attr_celeba.txt").write_text("\n".join([count, *lines[1:]]))
    with pytest.raises(
        ValueError, match=r"list_attr_celeba\.txt is not CelebA's list of attributes: it begins with"
    ) as e:
        load_split([root], "train")
    assert len(str(e.value)) < 400


def test_celeba_whose_files_disagree(tmp_path):
    root = celeba(tmp_path)
    (root / "img_align_celeba/000002.jpg").unlink()
    listed = root / "list_attr_celeba.txt"
    listed.write_text(listed.read_text().replace("10\n", "202599\n", 1) + "000011.jpg 1 1\n")
    photo(root / "img_align_celeba/000012.jpg")
    with pytest.raises(ValueError, match=r"line 4: .*000002\.jpg does not exist \(and 1 more such problem\); correct"):
        load_split([root], "train")
    train = load_split([root], "train", bad_data="skip")
    assert len(train.paths) == 5
    assert train.skipped[1].endswith("line 13 has 3 columns, its header makes 4")
    assert any("says that it has 202,599 photos, it has 11" in note for note in train.notes)
    assert any(note.startswith("1 photos in ") and "are not used" in note for note in train.notes)
    assert "skipped 2: " in train.describe()
    assert len(load_split([root], "test", bad_data="skip").skipped) == 1  # a line without a split is everybody's

    (root / "list_eval_partition.txt").write_text("000001.jpg 0\n000003.jpg 7\n")
    assert any("000003.jpg is in no split" in p for p in load_split([root], "train", bad_data="skip").skipped)
    (root / "list_eval_partition.txt").write_text("000001.jpg\n")
    with pytest.raises(
        ValueError, match=r"partition\.txt line 1 must hold a file name and one value, it has 1 columns"
    ):
        load_split([root], "train")
    listed.write_text("<!DOCTYPE html><html><head><title>Quota exceeded</title>\n<p>Sorry")
    with pytest.raises(ValueError, match="is not CelebA's list of attributes: it begins with '<!DOCTYPE"):
        load_split([root], "train")
    for file in (root / "img_align_celeba").iterdir():
        file.unlink()
    photo(root / "img_align_celeba.zip")
    with pytest.raises(ValueError, match=r"no photos of list_attr_celeba\.txt in .*; unpack .*celeba\.zip"):
        load_split([root], "train")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables(tmp_path, separator):
    text = "Unnamed: 0,Image_Path,Wearing Hat,split,Young,Person_ID\n" + "\n".join(
        ["0,a 1.jpg,1,train,-1,x", "1,sub\\ü.JPG,,Training,1.0,", ",,,,,", "2,c.png, -1,valid,,y"]
    )
    for name in ("a 1.jpg", "sub/ü.JPG", "c.png"):
        photo(tmp_path / "images" / name)
    path = tmp_path / "attributes.csv"
    path.write_text(text.replace(",", separator), encoding="utf-8-sig")
    for data in (path, tmp_path):
        train, val = load_splits([data], ("train", "val"))
        assert train.attributes == ["Wearing Hat", "Young"]
        assert train.labels.tolist() == [[1, 0], [-1, 1]]
        assert train.identities == ["x", None]
        assert val.labels.tolist() == [[0, -1]]
        assert [p.relative_to(tmp_path).as_posix() for p in train.paths] == ["images/a 1.jpg", "images/sub/ü.JPG"]
        assert "2 photos of 1 people (1 of nobody known)" in train.describe()


def test_a_column_that_says_which_photos_are_of_val_is_no_attribute(tmp_path):
    text = "sep=,\nfname,Bald,is_valid\n1.jpg,1,False\n2.jpg,0,False\n3.jpg,1,True"
    for i in (1, 2, 3):
        photo(tmp_path / f"{i}.jpg")
    (tmp_path / "t.csv").write_text(text)
    train, val = load_splits([tmp_path], ("train", "val"))
    assert (train.attributes, train.labels.tolist(), val.labels.tolist()) == (["Bald"], [[1], [0]], [[1]])


def test_photos_beside_the_table_and_zeros_for_absent(tmp_path):
    path = table(tmp_path / "my labels.csv", "file,a,b,split\n1.jpg,0,1,train\n2.jpg,1,,train", folder=".")
    for data in (path, tmp_path):
        assert load_split([data], "train", val_fraction=0).labels.tolist() == [[0, 1], [1, -1]]


ROWS = {
    "missing file": ("gone.jpg,1,-1,train", r"t\.csv line 4: .*gone\.jpg does not exist"),
    "unknown split": ("3.jpg,1,-1,tset", r"line 4: split 'tset' is unknown; allowed are train, val, test"),
    "no file": (",1,-1,train", "line 4 has no file"),
    "short row": ("3.jpg,1,-1", "line 4 has 3 columns, its header 4"),
    "no photo": ("3.txt,1,1,train", r"line 4: .*3\.txt is not a photo by its name"),
    "no label": ("3.jpg,yes,-1,train", r"line 4, column 'Bald': 'yes', this file has 1, -1 or empty"),
    "zero beside minus one": ("3.jpg,1,0,train", r"line 4, column 'Hat': '0', this file has 1, -1 or empty"),
    "twice": ("2.jpg,1,1,train", r"line 4: .*2\.jpg is listed twice \(|line 4: .*2\.jpg is listed twice;"),
    "two answers": ("1.jpg,1,1,train", r"line 4: .*1\.jpg is listed twice, with another Hat"),
}


@pytest.mark.parametrize("fault", ROWS)
def test_faults_of_a_table(tmp_path, fault):
    row, message = ROWS[fault]
    text = f"file,Bald,Hat,split\n1.jpg,1,-1,train\n2.jpg,1,1,train\n{row}\n5.jpg,-1,1,train\n"
    table(tmp_path / "t.csv", text.replace("\n,1", "\ngone,1") if fault == "no file" else text)
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_split([tmp_path / "t.csv"], "train", val_fraction=0)
    assert "correct the data, or skip its problems with --bad-data skip" in str(error.value)
    train = load_split([tmp_path / "t.csv"], "train", bad_data="skip", val_fraction=0)
    assert [p.name for p in train.paths] == ["1.jpg", "2.jpg", "5.jpg"][fault == "two answers" :]
    assert len(train.skipped) == 1


def test_a_column_that_is_no_attribute(tmp_path):
    path = table(tmp_path / "t.csv", "file,Bald,age\n1.jpg,1,35\n2.jpg,0,\n3.jpg,1,61")
    with pytest.raises(ValueError, match=r"t\.csv: the column 'age' is no attribute, it holds '35'; correct"):
        load_split([path], "train")
    train = load_split([path], "train", bad_data="skip", val_fraction=0, test_fraction=0)
    assert (train.attributes, train.labels.tolist()) == (["Bald"], [[1], [0], [1]])


def test_splits_are_made_of_people_and_copies(tmp_path):
    """40 people of 4 photos, and 30 photos of nobody known of which each has a copy under another name."""
    text = numbered(160, header="file,Smiling,identity", row="{i:03d}.jpg,1,p{person}")
    path = table(tmp_path / "a/attributes.csv", text + "\n" + "\n".join(f"x{i:02d}.jpg,-1," for i in range(60)))
    for i in range(30):
        photo(path.parent / f"images/x{i + 30:02d}.jpg", (path.parent / f"images/x{i:02d}.jpg").read_text())
    splits = load_splits([path], ("train", "val", "test"))
    contents = [{p.read_text() for p in split.paths} for split in splits]
    people = [set(split.identities) - {None} for split in splits]
    for i, k in ((0, 1), (0, 2), (1, 2)):
        assert not contents[i] & contents[k]
        assert not people[i] & people[k]
    assert sum(len(split.paths) for split in splits) == 220
    assert 18 <= len(splits[1].paths) <= 22 and 18 <= len(splits[2].paths) <= 22
    assert all("val 10% and test 10% chosen by seed 0" in split.describe() for split in splits)
    assert {p.name for p in load_split([path], "val", seed=1).paths} != {p.name for p in splits[1].paths}

    moved = (tmp_path / "a").rename(tmp_path / "b")
    assert [p.name for p in load_split([moved], "val").paths] == [p.name for p in splits[1].paths]
    assert len(load_split([moved], "val", val_fraction=0.5, test_fraction=0).paths) in range(108, 113)
    with pytest.raises(ValueError, match=r"no split 'test'; there are train, val \(val 10% chosen"):
        load_split([moved], "test", test_fraction=0)
    with pytest.raises(ValueError, match=r"val_fraction is 0\.5: both must be 0 or more, and their sum below 1"):
        load_split([moved], "test", val_fraction=0.5, test_fraction=0.5)


def test_val_is_taken_out_of_train_where_it_is_missing(tmp_path):
    text = numbered(20, header="file,Smiling,split", row="{i:03d}.jpg,1,train") + "\nz.jpg,-1,test"
    train, val, test = load_splits([table(tmp_path / "attributes.csv", text)], ("train", "val", "test"))
    assert (len(train.paths), len(val.paths), [p.name for p in test.paths]) == (18, 2, ["z.jpg"])
    assert "val 10% chosen" in val.describe() and "chosen" not in test.describe()


def test_a_person_or_photo_in_two_given_splits(tmp_path):
    text = "file,Smiling,split,identity\n" + "\n".join(
        ["1.jpg,1,train,anna", "2.jpg,-1,train,ben", "3.jpg,1,train,", "4.jpg,1,val,anna", "5.jpg,-1,val,cleo"]
    )
    path = table(tmp_path / "t.csv", text + "\n6.jpg,1,test,cleo\n7.jpg,1,test,")
    photo(tmp_path / "images/3.jpg", (tmp_path / "images/7.jpg").read_text())
    with pytest.raises(ValueError, match=r"3\.jpg \(train\) is the same photo as .*7\.jpg \(test\) \(and 1 more"):
        load_split([path], "train")
    train, val, test = load_splits([path], ("train", "val", "test"), bad_data="skip")
    assert [[p.name for p in split.paths] for split in (train, val, test)] == [["2.jpg"], ["4.jpg"], ["6.jpg", "7.jpg"]]
    assert "1.jpg (train) is the same person as" in train.skipped[1] and "4.jpg (val)" in train.skipped[1]
    assert (len(train.skipped), len(val.skipped), test.skipped) == (2, 1, [])


@pytest.fixture
def two_sets(tmp_path) -> list[Path]:
    """The second has another attribute, one of the first in another spelling, and one of its people's names."""
    header = "file,{},split,identity"
    one = table(
        tmp_path / "one/attributes.csv",
        header.format("Smiling,Wearing_Hat") + "\n1.jpg,1,-1,train,7\n2.jpg,-1,1,val,8\n3.jpg,1,1,test,9",
    )
    two = table(
        tmp_path / "two/attributes.csv",
        header.format("Young,wearing hat") + "\n1.jpg,1,0,train,8\n2.jpg,0,1,val,6\n3.jpg,0,1,test,5",
    )
    return [one.parent, two.parent]


def test_several_sets_are_learnt_together(two_sets):
    train = load_split(two_sets, "train")
    assert train.attributes == ["Smiling", "Wearing_Hat", "Young"]
    assert train.labels.tolist() == [[1, 0, -1], [-1, 0, 1]]
    assert train.identities == ["one: 7", "two: 8"]  # not the person 8 of the other set's val
    assert any(note.startswith("wearing hat of ") and note.endswith(" is Wearing_Hat") for note in train.notes)
    assert load_split(two_sets[::-1], "train").attributes == ["Young", "wearing hat", "Smiling"]


def test_attributes_of_a_model_are_mapped_by_name(two_sets):
    val = load_split(two_sets, "val", attributes=["young", "Bald", "Smiling"])
    assert val.attributes == ["young", "Bald", "Smiling"]
    assert val.labels.tolist() == [[-1, -1, 0], [0, -1, -1]]
    assert "no label of Bald" in val.describe()
    assert "labels of Wearing_Hat are not used" in val.describe()
    with pytest.raises(ValueError, match=r"has no attribute 'Smilling'; did you mean Smiling\?"):
        load_split(two_sets, "train", attributes=["Smilling"])
    with pytest.raises(ValueError, match=r"has no attribute 'Bald'; it has Smiling, Wearing_Hat, Young"):
        load_split(two_sets, "test", attributes=["Bald"])


def test_one_photo_in_two_lists_has_the_labels_of_both(tmp_path):
    one = table(tmp_path / "one.csv", "file,Smiling,Bald,split\n1.jpg,1,0,train\n2.jpg,0,,train\n3.jpg,0,0,val")
    two = table(tmp_path / "two.csv", "file,Young,Bald\n1.jpg,1,\n2.jpg,0,1\n4.jpg,0,0")
    train = load_split([one, two], "train", test_fraction=0, val_fraction=0)
    assert [p.name for p in train.paths] == ["1.jpg", "2.jpg", "4.jpg"]
    assert train.labels.tolist() == [[1, 0, 1], [0, 1, 0], [-1, 0, 0]]
    two.write_text(two.read_text().replace("1.jpg,1,", "1.jpg,1,1"))
    with pytest.raises(ValueError, match=r"1\.jpg: Bald is absent and present in .*one\.csv and .*two\.csv"):
        load_split([one, two], "train", test_fraction=0, val_fraction=0)


def test_an_attribute_that_train_cannot_learn(tmp_path):
    path = table(tmp_path / "t.csv", "file,Smiling,Bald,split\n1.jpg,1,,train\n2.jpg,0,1,val")
    with pytest.raises(ValueError, match=r"t\.csv: train has no label of Bald; correct"):
        load_split([path], "train")
    train, val = load_splits([path], ("train", "val"), bad_data="skip")
    assert train.attributes == val.attributes == ["Smiling"]
    assert "labels of Bald are not used: train has none" in val.describe()


def test_photos_without_labels(tmp_path):
    path = table(tmp_path / "set/attributes.csv", "file,a,split\n1.jpg,1,train\n2.jpg,0,val\n3.jpg,1,test")
    splits = load_splits([path], ("train", "val", "test"))
    for name in ("x.jpg", "deep/er/y.png", "._z.jpg", "notes.txt"):
        photo(tmp_path / "more" / name)
    for i in (1, 2, 3):
        photo(tmp_path / f"more/copy {i}.jpg", (tmp_path / f"set/images/{i}.jpg").read_text())
    found = find_unlabelled([tmp_path / "more", tmp_path / "more/deep"])
    assert sorted(p.name for p in found) == ["copy 1.jpg", "copy 2.jpg", "copy 3.jpg", "x.jpg", "y.png"]
    kept, note = without_known(found, splits)
    assert [p.name for p in kept] == ["copy 1.jpg", "y.png", "x.jpg"]
    assert note == "2 of 5 photos without labels are left out: they are in val or test"
    assert without_known(kept, splits) == (kept, "")
    with pytest.raises(ValueError, match="there is no such file or folder"):
        find_unlabelled([tmp_path / "nowhere"])


WRONG = {
    "no table": ("", r"holds no labelled faces: wanted is attributes\.csv"),
    "no file": ("name,Smiling\n1,1", "its first line must name a column file; it is 'name,Smiling'"),
    "no attribute": ("file,split\n1.jpg,train", "its first line must name a column for each attribute beside it"),
    "one attribute twice": ("file,Wearing Hat,wearing_hat\n1.jpg,1,1", "'Wearing Hat' and 'wearing_hat' are the same"),
    "not text": ("file,a\n\udcff", "is not a CSV file in UTF-8"),
    "quotes": ('file,a\n"1.jpg,1', r"is not a CSV file: line \d"),
    "no rows": ("file,a", "has no split 'train'; there are none"),
    "no photos": ("file,a\ngone.jpg,1", r"there are none \(.*line 2: .*gone\.jpg does not exist\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_data_set(tmp_path, case):
    text, message = WRONG[case]
    if text:
        (tmp_path / "attributes.csv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=message) as error:
        load_split([tmp_path], "train")
    assert "\n" not in str(error.value)


def test_wrong_places(tmp_path):
    table(tmp_path / "inner/attributes.csv", "file,a\n1.jpg,1")
    with pytest.raises(ValueError, match=r"did you mean --data .*inner\?"):
        load_split([tmp_path], "train")
    with pytest.raises(ValueError, match=r"--data .*nowhere: there is no such folder or CSV file"):
        load_split([tmp_path / "nowhere"], "train")
    with pytest.raises(ValueError, match="has no split 'tset'; there are train"):
        load_split([tmp_path / "inner"], "tset")
    for name in ("one.csv", "two.csv"):
        table(tmp_path / "several" / name, "file,a\n1.jpg,1")
    with pytest.raises(ValueError, match=r"has several lists of labels: one\.csv, two\.csv; give those"):
        load_split([tmp_path / "several"], "train")


def test_the_sample_set(tmp_path):
    root = make_sample(tmp_path / "s", num_train=8, num_val=4, num_test=4, num_unlabelled=1, num_workers=1)
    train, val, test = load_splits([root], ("train", "val", "test"), attributes=ATTRIBUTES[:4])
    assert [len(split.paths) for split in (train, val, test)] == [8, 4, 4]
    assert [len(set(split.identities)) for split in (train, val, test)] == [2, 1, 1]
    assert train.skipped == []


def test_real_faces(shared):
    """Counts by awk over the lists; photo 1 of CelebA as its authors label it."""
    faces = shared / "data/faces"
    first = list_data([faces / "celeba32"])
    present = [name for name, label in zip(first.attributes, first.labels[0], strict=True) if label == 1]
    assert ", ".join(present) == (
        "Arched_Eyebrows, Attractive, Brown_Hair, Heavy_Makeup, High_Cheekbones, Mouth_Slightly_Open, No_Beard, "
        "Pointy_Nose, Smiling, Straight_Hair, Wearing_Earrings, Wearing_Lipstick, Young"
    )
    assert (first.labels.shape, first.problems) == ((32, 40), [])
    train, val, test = load_splits([faces / "utkface", faces / "lfw_smiling"], ("train", "val", "test"))
    assert train.attributes == ["Child", "Male", "Senior", "Young", "Smiling"]
    assert [len(split.paths) for split in (train, val, test)] == [4800, 800, 800]
    assert sum(split.known for split in (train, val, test)).tolist() == [4800, 4800, 4800, 4800, 1600]
    assert sum(split.positive for split in (train, val, test)).tolist() == [694, 2493, 579, 3035, 676]


def test_labels_are_decided_column_by_column(tmp_path):
    """A column of 1 and 0 stays, whatever another one holds; one of other numbers is named."""
    rows = [f"{i}.jpg,{i % 2},{(-1) ** i},{i * 3 - 1}" for i in range(1, 9)]
    path = table(tmp_path / "t.csv", "\n".join(["file,Bald,Hat,yaw", *rows]))
    with pytest.raises(ValueError, match=r"t\.csv: the column 'yaw' is no attribute, it holds '2'"):
        load_split([path], "train")
    train = load_split([path], "train", bad_data="skip", val_fraction=0, test_fraction=0)
    assert train.attributes == ["Bald", "Hat"]
    assert train.labels.tolist() == [[i % 2, int(i % 2 == 0)] for i in range(1, 9)]
