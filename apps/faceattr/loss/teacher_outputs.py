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
AT_ONCE = 50_000  # photos whose outputs are looked up or computed before they are kept


@torch.no_grad()
def teacher_outputs(teacher: Tagger, images: Tensor, amp: MixedPrecision) -> tuple[Tensor, Tensor]:
    """The teacher's logits (B, A) and pooled features (B, F) of images (B, 3, H, W) uint8: the student's own crops."""
    with autocast(images.device, amp), pooled_features(teacher.network) as pooled:
        logits = teacher.network(teacher.preprocessing(images)).float()
    return logits, pooled[0].float()


class KeptOutputs:
    """A teacher's logits, float16, by the content of photos, in the user's cache.

    They are kept under the content of the teacher's folder (weights, preprocessing, resolution) and of each photo, so
    that neither moving nor renaming matters. A part holds the photos whose hash begins with the same byte: only one
    part is in memory at a time.

    Args:
        teacher: as it is loaded from `folder`, its model folder or run.
    """

    def __init__(self, teacher: Tagger, folder: Path) -> None:
        self.folder = cache_dir() / "teacher-outputs" / _hash_teacher(folder).hex()
        self.num_attributes = len(teacher.attributes)

    def find(self, hashes: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Logits (N, A) of photos by their hashes, and which of them are known, (N,) bool."""
        logits = np.zeros((len(hashes), self.num_attributes), np.float16)
        known = np.zeros(len(hashes), bool)
        for first, places in _by_first_byte(hashes).items():
            part = self._read(first)
            for i in places:
                if hashes[i] in part:
                    logits[i], known[i] = part[hashes[i]], True
        return logits, known

    def add(self, hashes: Sequence[bytes], logits: np.ndarray) -> None:
        """Keep logits (N, A), float16, of more photos."""
        for first, places in _by_first_byte(hashes).items():
            part = self._read(first) | {hashes[i]: logits[i] for i in places}
            photos = np.frombuffer(b"".join(part), np.uint8).reshape(-1, HASH_BYTES)
            with written_whole(self._file(first)) as temporary:
                save_file({"photos": photos, "logits": np.stack(list(part.values()))}, temporary)

    def _file(self, first: int) -> Path:
        return self.folder / f"{first:02x}.safetensors"

    def _read(self, first: int) -> dict[bytes, np.ndarray]:
        """The logits (A,) in a part by the photo's hash; none of a file that is damaged."""
        path = self._file(first)
        try:
            stored = load_file(path)
            photos, logits = stored["photos"], stored["logits"]
        except FileNotFoundError:
            return {}
        except (SafetensorError, KeyError, OSError):
            photos = logits = np.zeros(0)
        whole = photos.shape == (len(logits), HASH_BYTES) and logits.shape == (len(photos), self.num_attributes)
        if not whole or (photos.dtype, logits.dtype) != (np.uint8, np.float16) or not np.isfinite(logits).all():
            print(f"{path} is damaged: the teacher's outputs are computed again")
            return {}
        return {row.tobytes(): some for row, some in zip(photos, logits, strict=True)}


def content_hash(data: bytes) -> bytes:
    """Of a photo's file."""
    return hashlib.blake2b(data, digest_size=HASH_BYTES).digest()


def _by_first_byte(hashes: Sequence[bytes]) -> dict[int, list[int]]:
    """Positions of hashes by their first byte."""
    places: dict[int, list[int]] = {}
    for i, digest in enumerate(hashes):
        places.setdefault(digest[0], []).append(i)
    return places


def cached_outputs(
    teacher: Tagger, folder: Path, paths: Sequence[Path], *, batch_size: int, num_workers: int
) -> np.ndarray:
    """The teacher's logits (N, A), float16, of the central squares of photos; missing ones are computed and kept.

    Args:
        folder: the teacher's model folder or run.
    """
    kept, num_computed = KeptOutputs(teacher, folder), 0
    outputs = np.empty((len(paths), len(teacher.attributes)), np.float16)
    for start in range(0, len(paths), AT_ONCE):
        some = paths[start : start + AT_ONCE]
        hashes = [content_hash(photo.read_bytes()) for photo in some]
        found, known = kept.find(hashes)
        missing = {digest: photo for digest, photo, there in zip(hashes, some, known, strict=True) if not there}
        if missing:
            loading = {"batch_size": batch_size, "num_workers": num_workers}
            computed = predict_photos(teacher, list(missing.values()), name="the teacher", **loading)
            new = dict(zip(missing, computed.to(torch.float16).numpy(), strict=True))
            kept.add(list(new), np.stack(list(new.values())))
            for i in np.flatnonzero(~known):
                found[i] = new[hashes[i]]
        outputs[start : start + len(some)] = found
        num_computed += len(missing)
    print(f"the teacher's outputs for {len(paths):,} photos: {num_computed:,} computed, the others in {kept.folder}")
    return outputs


def _hash_teacher(folder: Path) -> bytes:
    folder = model_folder(folder)
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    for name in (WEIGHTS, DESCRIPTION):
        digest.update((folder / name).read_bytes())
    return digest.digest()
