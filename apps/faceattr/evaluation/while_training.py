"""Evaluation in the middle of training."""

import torch
from torch import Tensor
from tqdm import tqdm

from apps.common.training.distributed import Processes
from apps.common.training.run_log import RunLog
from apps.common.training.run_state import RunState
from apps.faceattr.data.load import AttributeSplit
from apps.faceattr.evaluation.metrics import attribute_metrics
from apps.faceattr.model.inference import predict_photos
from apps.faceattr.model.tagger import Tagger


def uncalibrated_metrics(
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


def measure_teacher(
    teacher: Tagger | None,
    split: AttributeSplit,
    log: RunLog,
    *,
    new: bool,
    batch_size: int,
    num_workers: int,
    processes: Processes,
) -> Tensor | None:
    """Log the metrics of the teacher, if there is one and the run is new; returns its logits (N, A)."""
    if teacher is None:
        return None
    values, logits = uncalibrated_metrics(
        teacher, split, batch_size=batch_size, num_workers=num_workers, processes=processes
    )
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
    batch_size: int,
    num_workers: int,
    processes: Processes,
    teacher_logits: Tensor | None = None,
) -> None:
    """Log the metrics of a tagger, and keep it in best/ if no earlier one had a higher mean AP.

    Args:
        teacher_logits: (N, A), of the same photos: the share of equal decisions and the mean difference of the
            probabilities are logged, too.
    """
    with state.kept(log.folder, evaluating=True):
        values, logits = uncalibrated_metrics(
            tagger, split, batch_size=batch_size, num_workers=num_workers, processes=processes
        )
    if teacher_logits is not None:
        same = ((logits >= 0) == (teacher_logits >= 0)).double().mean().item()
        difference = (logits.sigmoid() - teacher_logits.sigmoid()).abs().double().mean().item()
        values = {**values, "agrees_with_teacher": same, "difference_from_teacher": difference}
    log.write("eval", state.done, **values)
    tqdm.write(f"step {state.done:,}: mean AP {values['mean_ap']:.3f}")
    if state.note_evaluation(values) and processes.is_first:
        tagger.save(log.folder / "best", metrics={"split": split.name, "step": state.done, **values})
