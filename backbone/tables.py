"""Shared by the commands of this package: flags whose errors are one line, and tables as text."""

import argparse
from collections.abc import Sequence
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one line without the usage block."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def columns(rows: Sequence[Sequence[str]], align: str, groups: Sequence[tuple[str, int]] = ()) -> list[str]:
    """Lines of a table whose first row is its header; `align` has l or r per column.

    Args:
        groups: titles over the header, each with the number of columns that it spans.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    header, *lines = [
        "  ".join(
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(row, widths, align, strict=True)
        )
        for row in rows
    ]
    lines = [header, "-" * len(header), *lines]
    if groups:
        titles, start = [], 0
        for title, span in groups:
            width = sum(widths[start : start + span]) + 2 * (span - 1)
            titles.append(f" {title} ".center(width, "-") if title else " " * width)
            start += span
        lines.insert(0, "  ".join(titles))
    return lines
