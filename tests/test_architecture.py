"""The rules of the house: who imports whom, and what no file may hold."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("backbone", "apps", "demos")
APPS = sorted(p.name for p in (ROOT / "apps").iterdir() if p.is_dir() and p.name not in ("common", "__pycache__"))
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]


def imports(path: Path) -> list[str]:
    """Full names of all modules that a file imports, at the top or later."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


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


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_go_one_way(path):
    own = [name for name in imports(path) if name.split(".")[0] in (*ROOMS, "tests", "benchmarks")]
    wrong = [
        name for name in own if not any((name + ".").startswith(prefix + ".") for prefix in allowed(room_of(path)))
    ]
    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_file_edits_the_module_path_or_is_too_long(path):
    text = path.read_text(encoding="utf-8")
    assert "sys.path" not in text
    assert len(text.splitlines()) <= 400


def test_the_backbone_needs_torch_alone():
    """What is imported at the top of its files is torch or comes with Python."""
    for path in (ROOT / "backbone").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.split(".")[0]
                assert top in ("torch", "backbone") or top in sys.stdlib_module_names, f"{path} imports {name}"


def test_no_app_file_hides_a_top_level_module():
    """`python apps/detection/train.py` puts apps/detection/ first on the module path."""
    installed = {"gradio", "cv2", "torch", "torchvision", "numpy", "tyro", "tqdm", "albumentations", "safetensors"}
    for app in APPS:
        own = {path.stem for path in (ROOT / "apps" / app).iterdir() if path.suffix == ".py" or path.is_dir()}
        assert own & (set(sys.stdlib_module_names) | installed) == set()


def test_nothing_of_one_machine_is_in_the_tree():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in tracked.stdout.splitlines():
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".txt", ".json", "") and path.is_file():
            text = path.read_text(encoding="utf-8", errors="ignore")
            for word in ("/home/" + "user", "/tmp/" + "bash", "/wo" + "rk/", "file:/" + "//"):
                assert word not in text, f"{name} holds {word}"


def test_data_is_not_committed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    assert [name for name in tracked if name.endswith((".h5", ".tflite", ".npz", ".pt"))] == []
