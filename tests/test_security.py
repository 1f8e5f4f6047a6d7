"""SECURITY.md tells the limits that the code has; the pinned versions are allowed by pyproject.toml."""

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ROWS = re.findall(r"^\| ([^|]+) \| ([\d,]+) \| `([\w.]+)\.(\w+)` \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("what", "limit", "module", "name"), ROWS)
def test_a_limit_is_the_one_of_the_code(what, limit, module, name):
    assert int(limit.replace(",", "")) == getattr(import_module(module), name), what


def test_all_limits_of_the_pages_are_told():
    told = {(module, name) for _, _, module, name in ROWS}
    assert len(told) == len(ROWS) > 20
    for module in ("demos.uploads", "demos.visitors", "demos.serving"):
        names = {
            name for name in vars(import_module(module)) if re.match(r"MAX_\w*(BYTES|PIXELS|PHOTOS|MEMBERS)", name)
        }
        assert {(module, name) for name in names} <= told


def test_pins_are_within_what_is_asked_for():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in sum(project["optional-dependencies"].values(), project["dependencies"]):
        wanted = Requirement(line)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), line
