"""The rules of the house: which rooms there are, who imports whom, and how long a file may be."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("backbone", "apps", "demos")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
HOUSES = ("backbone", "backbone.weights", "demos", "apps.common", "apps.detection", "apps.finegrained", "apps.faceattr")
APPS = {  # an app -> what it has beyond the rooms and doors that all apps have
    "detection": {"boxes", "reef", "__main__"},
    "finegrained": {"moths"},
    "faceattr": {"portraits", "teacher", "faces"},
}
DOORS = {"train", "eval", "predict", "export", "check", "sample", "teacher", "faces", "__main__"}
ROOMS = {  # a room of an app -> the other rooms of that app that it may import; a door may import all
    "choices": set(),
    "data": {"choices"},
    "boxes": {"choices"},
    "model": {"choices", "data", "boxes"},
    "loss": {"choices", "data", "boxes", "model"},
    "evaluation": {"choices", "data", "boxes", "model"},
    "results": {"choices", "data", "boxes", "model"},
    **{drawn: set() for drawn in ("reef", "moths", "portraits")},
}
IN_ALL_APPS = {
    "data": {"load", "listing", "splits", "findings", "batches"},
    "model": {"create", "pretrained", "inference"},
    "evaluation": {"metrics", "pictures", "report"},
}
COMMON = {"data", "training", "evaluation", "media", "deploy", "drawing"}
MAX_LINES, MAX_FUNCTION, MAX_TRAIN, MAX_TOTAL = 300, 60, 120, 38_500  # all are less than that
MAX_ENTRIES, MAX_FLOORS = 15, 6  # of a folder in apps/; of an app
# What is longer still. Whoever shortens one takes it off the list; nothing is added.
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> list[str]:
    """Full names of all modules that a file imports, at the top or later."""
    names = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@cache
def own_imports(module: str) -> set[str]:
    """The modules of this project that one of them imports: names of modules, not of what is taken from them."""
    found = set()
    for name in imports(MODULES[module]):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        found.add(name)
    return found - {"", module}


def entry_of(module: str, house: str) -> str:
    """The file or folder of a house that a module is or lies in: "apps.detection.data.load" -> "data"."""
    return module.removeprefix(house + ".").split(".")[0]


def arrows(house: str) -> dict[str, set[str]]:
    """Which files and folders of a house import which others of it."""
    inside = [module for module in MODULES if module.startswith(house + ".")]
    found: dict[str, set[str]] = {entry_of(module, house): set() for module in inside}
    for module in inside:
        mine = entry_of(module, house)
        found[mine] |= {entry_of(name, house) for name in own_imports(module) if name in inside} - {mine}
    return found


def longest_chain(graph: dict[str, set[str]]) -> list[str]:
    """The longest chain of imports, from the top down.

    Raises:
        ValueError: there is a circle; the message has it.
    """
    chains: dict[str, list[str]] = {}

    def chain(name: str, above: tuple[str, ...]) -> list[str]:
        if name in above:
            raise ValueError(" -> ".join((*above[above.index(name) :], name)))
        if name not in chains:
            below = [chain(other, (*above, name)) for other in sorted(graph[name])]
            chains[name] = [name, *max(below, key=len, default=[])]
        return chains[name]

    return max((chain(name, ()) for name in sorted(graph)), key=len)


def allowed(room: str) -> tuple[str, ...]:
    """Prefixes of our own modules that a room may import."""
    if room == "backbone":
        return ("backbone",)
    if room == "apps.common":
        return ("backbone", "apps.common")
    if room.startswith("apps."):
        return ("backbone", "apps.common", room)
    return ("demos", "apps.common", *(f"apps.{app}.{door}" for app in APPS for door in ("predict", "results")))


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return ".".join(parts[:2]) if parts[0] == "apps" and len(parts) > 2 else parts[0]


def entries(folder: Path) -> set[str]:
    """Names of the files and folders in a folder, without suffix."""
    return {path.stem for path in folder.iterdir() if path.name not in ("__init__.py", "__pycache__")}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_go_one_way(path):
    own = [name for name in imports(path) if name.split(".")[0] in (*PACKAGES, "tests", "benchmarks")]
    wrong = [
        name for name in own if not any((name + ".").startswith(prefix + ".") for prefix in allowed(room_of(path)))
    ]
    assert wrong == []


@pytest.mark.parametrize("app", APPS)
def test_rooms_of_an_app_know_those_below_them(app):
    """choices <- data, boxes <- model <- loss, evaluation, results <- doors; and eval.py is no part of a script."""
    graph = arrows(f"apps.{app}")
    for room in graph.keys() - DOORS:
        assert graph[room] <= ROOMS[room], f"{room} imports {graph[room] - ROOMS[room]}"
    assert graph["eval"] & DOORS <= {"sample"}


@pytest.mark.parametrize("app", APPS)
def test_an_app_has_the_rooms_that_all_apps_have(app):
    folder = ROOT / "apps" / app
    same = {"choices", "data", "model", "loss", "evaluation", "results", *DOORS} - {"teacher", "faces", "__main__"}
    assert entries(folder) == same | APPS[app]
    for room, files in IN_ALL_APPS.items():
        assert files <= entries(folder / room)


def test_there_are_no_other_apps_or_common_rooms():
    assert entries(ROOT / "apps") == {"common", "__main__", *APPS}
    assert {path.name for path in (ROOT / "apps/common").iterdir() if path.is_dir()} - {"__pycache__"} == COMMON


def test_no_import_runs_in_a_circle():
    """Imports inside functions count, too."""
    longest_chain({module: own_imports(module) for module in MODULES})
    with pytest.raises(ValueError, match=r"^b -> c -> b$"):
        longest_chain({"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": set()})


@pytest.mark.parametrize("house", HOUSES)
def test_a_house_has_few_floors_and_no_stairs_in_a_circle(house):
    """Floors: the longest chain of imports among the files and folders right in it."""
    chain = longest_chain(arrows(house))
    for above, below in pairwise(chain):
        assert below in arrows(house)[above]
    assert len(chain) <= MAX_FLOORS, " -> ".join(chain)


def test_no_folder_of_apps_is_crowded():
    folders = {path.parent for path in FILES if path.is_relative_to(ROOT / "apps")}
    assert {str(folder): len(entries(folder)) for folder in folders if len(entries(folder)) > MAX_ENTRIES} == {}


def test_files_are_short():
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in zip(NAMES, FILES, strict=True)}
    assert {name for name in lines if lines[name] >= MAX_LINES} == LONG_FILES
    assert sum(lines.values()) < MAX_TOTAL


def test_functions_are_short():
    found = set()
    for name, path in zip(NAMES, FILES, strict=True):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines >= (MAX_TRAIN if node.name == "train" else MAX_FUNCTION):
                    found.add(f"{name} {node.name}")
    assert found == LONG_FUNCTIONS


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_file_edits_the_module_path(path):
    assert "sys.path" not in path.read_text(encoding="utf-8")


def test_the_backbone_needs_torch_alone():
    """What is imported at the top of its files is torch or comes with Python."""
    for path in (ROOT / "backbone").rglob("*.py"):
        for node in parsed(path).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.split(".")[0]
                assert top in ("torch", "backbone") or top in sys.stdlib_module_names, f"{path} imports {name}"


def test_nothing_beside_a_script_hides_a_top_level_module():
    """`python apps/detection/train.py` puts apps/detection/ first on the module path."""
    known = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions()) - set(PACKAGES)
    assert {"torch", "cv2", "gradio", "random"} <= known
    folders = {path.parent for path in FILES if '__name__ == "__main__"' in path.read_text(encoding="utf-8")}
    assert {ROOT / "apps" / app for app in APPS} | {ROOT / "demos"} <= folders
    for folder in folders:
        assert entries(folder) & known == set(), folder


def test_tests_mirror_the_rooms():
    for folder in (path for path in (ROOT / "tests").rglob("*") if path.is_dir() and path.name != "__pycache__"):
        parts = folder.relative_to(ROOT / "tests").parts
        room = ROOT.joinpath(*(parts if parts[0] in PACKAGES else ("apps", *parts)))
        assert room.is_dir(), f"{folder} tests nothing"
        doubled = [path.name for path in folder.glob(f"test_{parts[-1]}_*.py")]
        assert doubled == [], f"{folder}: the folder's name is enough"


def test_the_table_of_contributing_tells_where_things_are():
    """Each row names a file, or one in every app, and what is defined there: a function, a class or its method."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| `([^`]+\.py)` \| `([\w.]+)` \|$", text, re.M)
    assert len(rows) == text.count("\n| ") - 1 > 25
    for place, name in rows:
        for path in [place.replace("<task>", app) for app in APPS] if "<task>" in place else [place]:
            nodes: list[ast.stmt] = parsed(ROOT / path).body
            for part in name.split("."):
                (found,) = (node for node in nodes if getattr(node, "name", None) == part)
                assert isinstance(found, ast.FunctionDef | ast.ClassDef)
                nodes = found.body


def tracked_files() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.splitlines()


def test_nothing_of_one_machine_is_in_the_tree():
    for name in tracked_files():
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".txt", ".json", "") and path.is_file():
            text = path.read_text(encoding="utf-8", errors="ignore")
            for word in ("/home/" + "user", "/tmp/" + "bash", "/wo" + "rk/", "file:/" + "//"):
                assert word not in text, f"{name} holds {word}"


def test_data_is_not_committed():
    assert [name for name in tracked_files() if name.endswith((".h5", ".tflite", ".npz", ".pt"))] == []
