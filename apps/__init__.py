"""The apps.

What onnxruntime sends to its maker, and the number that it gives this machine, are off before anything imports it. All
apps need OpenCV, whose usual build needs libraries of a desktop that servers lack: say so first.
"""

import os
import sys
from importlib.metadata import version

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, when onnxruntime is first imported

try:
    import cv2 as _cv2  # noqa: F401
except ImportError as error:
    if ".so" not in str(error):
        raise
    print(
        f"OpenCV cannot be loaded ({error}). Either `apt-get install libgl1 libxcb1`, or use the build that needs no "
        "display: `python -m pip install --force-reinstall --no-deps "
        f"opencv-python-headless=={version('opencv-python-headless')}`",
        file=sys.stderr,
    )
    raise SystemExit(2) from None
