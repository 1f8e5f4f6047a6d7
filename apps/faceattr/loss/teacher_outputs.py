"""A teacher's outputs for a batch; or computed once for each photo and cached, so that a second student costs less.

The first way, on each augmented crop, is slower and, for long runs, better: Beyer et al.,
"Knowledge distillation: A good teacher is patient and consistent", arXiv 2106.05237.

Letters in shapes: N photos, A attributes.
"""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from apps.common.checkpoint import DESCRIPTION, WEIGHTS, model_folder
from apps.common.data.eval_set import EvalSet
from apps.common.device import MixedPrecision, autocast
from apps.common.evaluation.inference import predict_logits
from apps.common.images import read_image
from apps.common.training.distributed import Processes
from apps.faceattr.data.batches import to_square
from apps.faceattr.data.shards import HASH_BYTES, ShardSet, content_hash, mapped
from apps.faceattr.model.create import pooled_features
from apps.faceattr.model.tagger import Tagger
from backbone.files import cache_dir, written_whole

NUM_PARTS = 256  # files of the cache
AT_ONCE = 50_000  # photos whose outputs are looked up at once
KEPT_AFTER = 4096  # photos whose outputs are computed before they are kept; more where a part has more


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


def _by_first_byte(hashes: Sequence[bytes]) -> dict[int, list[int]]:
    """Positions of hashes by their first byte."""
    places: dict[int, list[int]] = {}
    for i, digest in enumerate(hashes):
        places.setdefault(digest[0], []).append(i)
    return places


class _Photos(Sequence[Path]):
    """Some of the photos in files and of those in shards, which are numbered behind them."""

    def __init__(self, paths: Sequence[Path], shards: ShardSet | None, items: Sequence[int]) -> None:
        self.paths, self.shards, self.items = paths, shards, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: Any) -> Any:
        item = self.items[i]
        if item < len(self.paths) or self.shards is None:
            return self.paths[item]
        return self.shards.name(item - len(self.paths))

    def square(self, item: int, resolution: int) -> np.ndarray:
        if item < len(self.paths) or self.shards is None:
            return to_square(read_image(self.paths[item]), resolution)
        return to_square(self.shards.read(item - len(self.paths)), resolution)


def cached_outputs(
    teacher: Tagger,
    folder: Path,
    paths: Sequence[Path],
    shards: ShardSet | None = None,
    *,
    batch_size: int,
    num_workers: int,
    processes: Processes = Processes(),  # noqa: B008
) -> np.ndarray:
    """The teacher's logits (N, A), float16, of the central squares of photos; missing ones are computed and kept.

    Each of the processes computes parts of its own, some thousand photos at a time, which are then kept. The result is
    mapped from a file.

    Args:
        folder: the teacher's model folder or run.
        shards: of further photos, which come after the others.
    """
    kept, counts = KeptOutputs(teacher, folder), []
    digests = mapped((len(paths) + len(shards or ()), HASH_BYTES), np.dtype(np.uint8))
    for i, path in enumerate(paths):
        digests[i] = np.frombuffer(content_hash(path.read_bytes()), np.uint8)
    if shards:
        digests[len(paths) :] = shards.photos["digest"]
    width = max(1, min(NUM_PARTS // processes.count, KEPT_AFTER * NUM_PARTS // max(1, len(digests))))
    rooms = [(first, first + width) for first in range(0, NUM_PARTS, width)]  # of first bytes
    for low, high in processes.share(rooms):
        items = np.flatnonzero((digests[:, 0] >= low) & (digests[:, 0] < high)).tolist()
        hashes = [digests[item].tobytes() for item in items]
        known = kept.find(hashes)[1]
        missing = {digest: item for digest, item, there in zip(hashes, items, known, strict=True) if not there}
        counts.append(len(missing))
        if missing:
            photos = _Photos(paths, shards, list(missing.values()))
            squares = EvalSet(photos.items, functools.partial(photos.square, resolution=teacher.resolution))
            loading: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers}
            logits = predict_logits(teacher.logits, squares, photos, name="the teacher", **loading)
            kept.add(list(missing), logits.to(torch.float16).numpy())
    num_computed = sum(processes.gather(counts, len(rooms)))
    outputs = mapped((len(digests), len(teacher.attributes)), np.dtype(np.float16))
    for first in range(NUM_PARTS):
        items = np.flatnonzero(digests[:, 0] == first).tolist()
        outputs[items] = kept.find([digests[item].tobytes() for item in items])[0]
    print(f"the teacher's outputs for {len(digests):,} photos: {num_computed:,} computed, the others in {kept.folder}")
    return outputs


def _hash_teacher(folder: Path) -> bytes:
    folder = model_folder(folder)
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    for name in (WEIGHTS, DESCRIPTION):
        digest.update((folder / name).read_bytes())
    return digest.digest()
