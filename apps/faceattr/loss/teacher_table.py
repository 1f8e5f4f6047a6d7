"""A teacher's outputs for many photos, computed on Ray and kept for train.py's --teacher-outputs cached.

Letters in shapes: N photos, A attributes.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from apps.common.cli import say
from apps.common.deploy.sessions import check_finite
from apps.common.device import choose_device
from apps.common.images import stack_images
from apps.common.media.cluster.predictions import Answering, make_table
from apps.common.media.cluster.table import Columns
from apps.faceattr.data.batches import to_square
from apps.faceattr.loss.teacher_outputs import AT_ONCE, KeptOutputs, content_hash
from apps.faceattr.model.tagger import APP, Tagger

BATCH_SIZE = 32  # photos


def keep_outputs_on_ray(config: Any) -> None:
    """What predict.py does with --save-as outputs: a table of outputs, and then the parts of the cache.

    Raises:
        ValueError: flags that do not go together, or see `make_table`.
    """
    if config.on != "ray" or not config.whole:
        raise ValueError("--save-as outputs needs --on ray and --whole: it is for face crops that a teacher labels")
    out = make_table(dataclasses.replace(config, save_as=None), app=APP, answer=answer, what="outputs")
    kept = KeptOutputs(Tagger.load(config.checkpoint, device=choose_device("cpu")), config.checkpoint)
    say(f"the teacher's outputs for {keep_table(out, kept):,} photos are in {kept.folder}")


def answer(config: Any) -> Answering:
    """What an actor holds: the teacher, in torch, as train.py uses it."""
    teacher = Tagger.load(config.checkpoint, device=choose_device(config.device))

    def find(images: list[np.ndarray]) -> list[np.ndarray]:
        squares = [to_square(image, teacher.resolution) for image in images]
        if not squares:
            return []
        logits = teacher.logits(stack_images(squares)).cpu()
        check_finite(logits)
        return list(logits.numpy().astype(np.float16))

    columns, name = Columns(_fields, lambda logits: {"logits": logits}), teacher.session.name
    return Answering(find, BATCH_SIZE, columns, name, lambda _, data: content_hash(data).hex())


def _fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [("logits", pa.list_(pa.float16()))]


def keep_table(out: Path, kept: KeptOutputs) -> int:
    """Put a table of outputs, whose paths are the photos' hashes, into the cache; returns how many photos it has."""
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(sorted(map(str, out.glob("*.parquet"))))
    rows = table.filter(pyarrow.dataset.field("problem").is_null())
    num_photos = 0
    for batch in rows.to_batches(columns=["path", "logits"], batch_size=AT_ONCE):
        if len(batch):
            hashes = [bytes.fromhex(name) for name in batch["path"].to_pylist()]
            kept.add(hashes, batch["logits"].flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1))
            num_photos += len(batch)
    return num_photos
