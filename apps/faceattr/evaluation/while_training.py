"""Evaluation during training."""

from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from apps.common.training.run_log import RunLog
from apps.common.training.run_state import RunState
from apps.faceattr.data.load import AttributeSplit
from apps.faceattr.evaluation.metrics import attribute_metrics
from apps.faceattr.evaluation.pictures import draw_val_batch
from apps.faceattr.model.inference import predict_photos
from apps.faceattr.model.tagger import Tagger


def uncalibrated_metrics(tagger: Tagger, split: AttributeSplit, **how: Any) -> tuple[dict[str, float | None], Tensor]:
    """The single numbers of `attribute_metrics`, uncalibrated, and the logits (N, A).

    Args:
        how: `processes`, `batch_size` and `num_workers` of `predict_photos`.
    """
    logits = predict_photos(tagger, split.paths, name=split.name, **how)
    labels = torch.from_numpy(split.labels)
    probs = logits.sigmoid()
    metrics = attribute_metrics(logits, labels, split.attributes, probs=probs, present=probs >= 0.5)
    return metrics.values, logits


def measure_teacher(
    teacher: Tagger | None, split: AttributeSplit, log: RunLog, *, new: bool, **how: Any
) -> Tensor | None:
    """Log the metrics of the teacher, if there is one and the run is new; returns its logits (N, A).

    Args:
        how: see `uncalibrated_metrics`.
    """
    if teacher is None:
        return None
    values, logits = uncalibrated_metrics(teacher, split, **how)
    print(f"the teacher ({teacher.backbone}) has a mean AP of {values['mean_ap']:.3f} on val")
    if new:
        log.write("teacher", 0, **values)
    return logits


def evaluate(
    tagger: Tagger,
    split: AttributeSplit,
    log: RunLog,
    state: RunState,
    *,
    teacher_logits: Tensor | None = None,
    **how: Any,
) -> None:
    """Log the metrics of a tagger, and keep it in best/ if no earlier one had a higher mean AP.

    Args:
        teacher_logits: (N, A), of the same photos: the share of equal decisions and the mean difference of the
            probabilities are logged, too.
        how: see `uncalibrated_metrics`.
    """
    with state.kept(log.folder, evaluating=True):
        values, logits = uncalibrated_metrics(tagger, split, **how)
    if teacher_logits is not None:
        same = ((logits >= 0) == (teacher_logits >= 0)).double().mean().item()
        difference = (logits.sigmoid() - teacher_logits.sigmoid()).abs().double().mean().item()
        values = {**values, "agrees_with_teacher": same, "difference_from_teacher": difference}
    log.write("eval", state.done, **values)
    tqdm.write(f"step {state.done:,}: mean AP {values['mean_ap']:.3f}")
    if state.note_evaluation(values) and log.writes:
        tagger.save(log.folder / "best", metrics={"split": split.name, "step": state.done, **values})
        draw_val_batch(log.folder, split, logits)
