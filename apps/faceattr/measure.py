"""Measuring in the middle of training, for both training scripts."""

from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from apps.common.distributed import Processes
from apps.common.runlog import RunLog
from apps.faceattr.attributes import AttributeSplit
from apps.faceattr.metrics import attribute_metrics, predict_photos
from apps.faceattr.tagger import Tagger


def measure(
    tagger: Tagger, split: AttributeSplit, *, batch_size: int, num_workers: int, processes: Processes
) -> tuple[dict[str, float | None], Tensor]:
    """The single numbers of `attribute_metrics`, uncalibrated, and the logits (N, A); photos are shared out."""
    part = predict_photos(
        tagger,
        processes.share(split.paths),
        name=split.name,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=processes.is_first,
    )
    logits = torch.stack(processes.gather(list(part), len(split.paths)))
    labels = torch.from_numpy(split.labels)
    probs = logits.sigmoid()
    metrics = attribute_metrics(logits, labels, split.attributes, probs=probs, present=probs >= 0.5)
    if metrics.values["mean_ap"] is None:
        raise ValueError(f"{split.name}: no attribute is known to be both present and absent, nothing can be measured")
    return metrics.values, logits


def keep_best(
    tagger: Tagger,
    split: AttributeSplit,
    log: RunLog,
    step: int,
    best: dict[str, Any],
    *,
    batch_size: int,
    num_workers: int,
    processes: Processes,
    taught: Tensor | None = None,
) -> dict[str, Any]:
    """Measure a tagger, keep it in best/ if none before had a higher mean AP; returns the best so far.

    Args:
        taught: the teacher's logits (N, A) of the same photos: the share of equal decisions and the mean difference of
            the probabilities are logged, too.
    """
    values, logits = measure(tagger, split, batch_size=batch_size, num_workers=num_workers, processes=processes)
    if taught is not None:
        same = ((logits >= 0) == (taught >= 0)).double().mean().item()
        difference = (logits.sigmoid() - taught.sigmoid()).abs().double().mean().item()
        values = {**values, "agrees_with_teacher": same, "difference_from_teacher": difference}
    log.write("eval", step, **values)
    tqdm.write(f"step {step:,}: mean AP {values['mean_ap']:.3f}")
    if values["mean_ap"] < best["metrics"]["mean_ap"]:
        return best
    if processes.is_first:
        tagger.save(log.folder / "best", metrics={"split": split.name, "step": step, **values})
    return {"step": step, "metrics": values}
