"""Tables that people open in a spreadsheet."""

import csv

import pytest

from apps.common.data.tables import read_header, read_table, write_csv


def test_no_cell_is_a_formula(tmp_path):
    cells = ["=cmd|'/c calc'!A1", "+1+1", "-2+3", "@SUM(A1)", "\tx", "-1.5", "+2", "crab", 3, -4.5]
    write_csv(tmp_path / "a.csv", ["class"], [[cell] for cell in cells])
    with open(tmp_path / "a.csv", newline="") as file:
        read = [row[0] for row in csv.reader(file)][1:]
    assert read == ["'" + str(cell) for cell in cells[:5]] + ["-1.5", "+2", "crab", "3", "-4.5"]


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "\ufeffSEP=;", "sep=;;;"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_line_by_which_excel_names_the_separator_is_no_header(tmp_path, first, end):
    path = tmp_path / "a.csv"
    path.write_text(end.join([first, "file;label, or more", "a.jpg;x", "", "b.jpg;y"]), newline="")
    header, rows = read_table(path)
    assert header == read_header(path) == ["file", "label, or more"]
    assert list(rows) == [(3, ["a.jpg", "x"]), (5, ["b.jpg", "y"])]
