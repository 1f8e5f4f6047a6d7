"""Photos by the names that other tools, on other machines, wrote down for them."""

import unicodedata

import pytest

from apps.common.data.names import find_root, root_of_table

FILES = ("images/day/a.jpg", "images/b.v2.JPG", "images/pêche.png", "c.jpg", "c.png")


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        path = tmp_path / unicodedata.normalize("NFD", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("images/day/a.jpg", "images/day/a.jpg"),
        ("images\\day\\a.jpg", "images/day/a.jpg"),
        (".\\images\\day\\a.jpg", "images/day/a.jpg"),
        ("images/day/a", "images/day/a.jpg"),
        ("images/b.v2", "images/b.v2.JPG"),
        ("day/a.jpg", "images/day/a.jpg"),
        ("images/p\u00eache.png", "images/pêche.png"),
        ("images/pe\u0302che", "images/pêche.png"),
        ("C:\\Users\\me\\set\\images\\day\\a.jpg", "images/day/a.jpg"),
        ("/home/me/set/day/a.jpg", "images/day/a.jpg"),
        ("..\\..\\label-studio\\media\\upload\\4\\c.jpg", "c.jpg"),
    ],
)
def test_a_name_of_another_machine_is_found(folder, name, found):
    root = find_root((folder, folder / "images"), [name])
    assert [path.relative_to(folder).as_posix() for path in root.photos(name)] == [unicodedata.normalize("NFD", found)]


def test_a_name_that_may_be_two_photos_is_not_guessed(folder):
    assert len(root_of_table(folder, ["c"]).photos("c")) == 2


def test_folders_are_dropped_only_where_no_name_is_found_as_it_is(folder):
    root = root_of_table(folder, ["images/day/a.jpg", "elsewhere/c.jpg"])
    assert root.photos("images/day/a.jpg")
    assert root.photos("elsewhere/c.jpg") == []
    assert find_root((folder,), ["gone.jpg", "a\0b", "", "x" * 5000]) is None
