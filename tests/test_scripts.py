"""What holds for every script: flags are read at once, whatever the script imports when it runs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for room in ("apps", "demos")
    for path in (ROOT / room).rglob("*.py")
    if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
)
SLOW = ("torch", "torchvision", "albumentations", "matplotlib", "pycocotools", "gradio", "onnxruntime", "openvino")
TWO_STARTS = f"""
import runpy, sys
script = sys.argv[1]
for flag, code in (("--help", 0), ("--no-such-flag", 2)):
    sys.argv = [script, flag]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as stop:
        assert (stop.code or 0) == code, stop.code
    else:
        raise AssertionError(f"{{flag}} is no end")
slow = sys.modules.keys() & set({SLOW!r})
assert not slow, slow
"""


def test_all_scripts_are_found():
    assert {"apps/detection/train.py", "apps/faceattr/teacher.py", "demos/app.py"} < set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_flags_are_read_before_anything_slow_is_imported(script):
    done = subprocess.run([sys.executable, "-c", TWO_STARTS, script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--help" in done.stdout  # the list of flags
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{Path(script).name}: error: ")
    assert "--no-such-flag" in line
