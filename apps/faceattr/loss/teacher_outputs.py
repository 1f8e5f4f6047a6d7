"""A teacher's outputs for a batch; or computed once for each photo and cached, so that a second student costs less.

The first way, on each augmented crop, is slower and, for long runs, better: Beyer et al.,
"Knowledge distillation: A good teacher is patient and consistent", arXiv 2106.05237.

Letters in shapes: N photos, A attributes.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from apps.common.checkpoint import DESCRIPTION, WEIGHTS, model_folder
from apps.common.device import MixedPrecision, autocast
from apps.faceattr.model.create import pooled_features
from apps.faceattr.model.inference import predict_photos
from apps.faceattr.model.tagger import Tagger
from backbone.files import cache_dir, written_whole

HASH_BYTES = 16


@torch.no_grad()
def teacher_outputs(teacher: Tagger, images: Tensor, amp: MixedPrecision) -> tuple[Tensor, Tensor]:
    """The teacher's logits (B, A) and pooled features (B, F) of images (B, 3, H, W) uint8: the student's own crops."""
    with autocast(images.device, amp), pooled_features(teacher.network) as pooled:
        logits = teacher.network(teacher.preprocessing(images)).float()
    return logits, pooled[0].float()


def cached_outputs(
    teacher: Tagger, folder: Path, paths: Sequence[Path], *, batch_size: int, num_workers: int
) -> np.ndarray:
    """The teacher's logits (N, A), float16, of the central squares of photos, from the cache where they are in it.

    The cache key is the content of the teacher's folder (weights, preprocessing, resolution) and of each photo, so that
    moving and renaming do not matter, and outputs for a changed photo or teacher are computed again.

    Args:
        folder: the teacher's model folder or run.
    """
    path = cache_dir() / "teacher-outputs" / f"{_hash_teacher(folder).hex()}.safetensors"
    known = _read(path, len(teacher.attributes))
    hashes = [hashlib.blake2b(photo.read_bytes(), digest_size=HASH_BYTES).digest() for photo in paths]
    missing = {digest: photo for digest, photo in zip(hashes, paths, strict=True) if digest not in known}
    if missing:
        logits = predict_photos(
            teacher, list(missing.values()), name="the teacher", batch_size=batch_size, num_workers=num_workers
        )
        known |= dict(zip(missing, logits.to(torch.float16).numpy(), strict=True))
        photos = np.frombuffer(b"".join(known), np.uint8).reshape(-1, HASH_BYTES)
        with written_whole(path) as temporary:
            save_file({"photos": photos, "logits": np.stack(list(known.values()))}, temporary)
    print(f"the teacher's outputs for {len(paths):,} photos: {len(missing):,} computed, the others in {path}")
    return np.stack([known[digest] for digest in hashes])


def _read(path: Path, num_attributes: int) -> dict[bytes, np.ndarray]:
    """The logits (A,) in a file of the cache, by the photo's hash; none of a file that is damaged."""
    try:
        stored = load_file(path)
        photos, logits = stored["photos"], stored["logits"]
    except FileNotFoundError:
        return {}
    except (SafetensorError, KeyError, OSError):
        photos = logits = np.zeros(0)
    whole = photos.shape == (len(logits), HASH_BYTES) and logits.shape == (len(photos), num_attributes)
    if not whole or (photos.dtype, logits.dtype) != (np.uint8, np.float16) or not np.isfinite(logits).all():
        print(f"{path} is damaged: the teacher's outputs are computed again")
        return {}
    return {row.tobytes(): some for row, some in zip(photos, logits, strict=True)}


def _hash_teacher(folder: Path) -> bytes:
    folder = model_folder(folder)
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    for name in (WEIGHTS, DESCRIPTION):
        digest.update((folder / name).read_bytes())
    return digest.digest()
