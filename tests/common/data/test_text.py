"""Reading text, JSON and YAML as people's tools write them."""

import json
import os

import pytest

from apps.common.checkpoint import load_json
from apps.common.data.tables import read_table
from apps.common.data.yaml_files import read_yaml
from backbone.text import read_text

WORDS = "file,label\né.jpg,桃子\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_in_every_form_of_unicode_is_read(tmp_path, encoding):
    path = tmp_path / "t"
    path.write_bytes(WORDS.replace("\n", "\r\n").encode(encoding))
    assert read_text(path) == WORDS
    header, rows = read_table(path)
    assert (header, [cells for _, cells in rows]) == (["file", "label"], [["é.jpg", "桃子"]])
    path.write_bytes(json.dumps({"names": ["é", 1]}).encode(encoding))
    assert load_json(path) == {"names": ["é", 1]}


def test_what_is_no_text_is_refused_by_name(tmp_path):
    path = tmp_path / "t.json"
    path.write_bytes("é".encode("latin-1"))
    with pytest.raises(ValueError, match=r"t\.json is not text in UTF-8: .*byte 0xe9"):
        read_text(path)
    for content in ("[" * 100_000, "9" * 5000):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"t\.json is not valid JSON"):
            load_json(path)


def test_what_stands_for_a_file_is_named(tmp_path):
    path = tmp_path / "t.json"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    with pytest.raises(ValueError, match=r"t\.json is not valid JSON, but a Git LFS pointer to the file: run `git lfs"):
        load_json(path)
    path.unlink()
    os.mkfifo(path)
    for read in (load_json, read_text):
        with pytest.raises(ValueError, match=r"t\.json cannot be read: it is a pipe or a device"):
            read(path)
        with pytest.raises(ValueError, match=r"cannot be read: no file has such a name"):
            read(tmp_path / "a\0")


@pytest.mark.parametrize(
    "word", ["yes", "no", "on", "off", "true", "null", "010", "1.10", "12:30", "2024-01-02", "1e3"]
)
def test_a_plain_word_of_yaml_is_what_is_written(tmp_path, word):
    (tmp_path / "t.yaml").write_text(f"names: [{word}]\nother:\n  {word}: {word}\n")
    assert read_yaml(tmp_path / "t.yaml") == {"names": [word], "other": {word: word}}


def test_a_key_of_yaml_that_is_there_twice_is_refused(tmp_path):
    for content in ("names:\n  0: cat\n  1: dog\n  0: bird\n", "names: [a]\nnames: [b]\n"):
        (tmp_path / "t.yaml").write_text(content)
        with pytest.raises(ValueError, match=r"t\.yaml is not valid YAML: the key '(0|names)' is there twice"):
            read_yaml(tmp_path / "t.yaml")


def test_a_declaration_of_utf_16_in_letters_of_one_byte_is_not_believed(tmp_path):
    text = '<?xml version="1.0" encoding="utf-16"?><a>é</a>'
    (tmp_path / "t.xml").write_bytes(text.encode())  # as .NET's writers of text do
    assert read_text(tmp_path / "t.xml") == text
    (tmp_path / "t.xml").write_bytes(text.encode("utf-16"))
    assert read_text(tmp_path / "t.xml") == text


def test_yaml_is_bounded(tmp_path):
    for content, message in (("[" * 50_000, "not valid YAML"), ("# " + "x" * 2_000_000, "1,000,000 at most")):
        (tmp_path / "t.yaml").write_text(content)
        with pytest.raises(ValueError, match=rf"t\.yaml .*{message}"):
            read_yaml(tmp_path / "t.yaml")
