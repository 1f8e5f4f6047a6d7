"""Findings that the data doctors share."""

from pathlib import Path

from apps.common.data.findings import photos_outside, similar_names


def test_names_that_differ_in_case_spaces_or_form_are_told():
    names = ["Dog", "cat", "dog", "1", "1.0", "10", "T-shirt", "t shirt", "+", "-", "桃", "桃子"]
    assert similar_names(names).cases == ["'Dog' = 'dog'", "'1' = '1.0'", "'T-shirt' = 't shirt'"]


def test_photos_outside_of_the_data_are_told(tmp_path):
    paths = [tmp_path / "data/a.jpg", tmp_path / "data/../b.jpg", Path("/elsewhere/c.jpg"), tmp_path / "data2/d.jpg"]
    assert photos_outside([tmp_path / "data"], paths).cases == [str(path) for path in paths[1:]]
