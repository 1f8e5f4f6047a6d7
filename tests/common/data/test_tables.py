"""Tables that people open in a spreadsheet."""

import csv

from apps.common.data.tables import write_csv


def test_no_cell_is_a_formula(tmp_path):
    cells = ["=cmd|'/c calc'!A1", "+1+1", "-2+3", "@SUM(A1)", "\tx", "-1.5", "+2", "crab", 3, -4.5]
    write_csv(tmp_path / "a.csv", ["class"], [[cell] for cell in cells])
    with open(tmp_path / "a.csv", newline="") as file:
        read = [row[0] for row in csv.reader(file)][1:]
    assert read == ["'" + str(cell) for cell in cells[:5]] + ["-1.5", "+2", "crab", "3", "-4.5"]
