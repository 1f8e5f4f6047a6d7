"""Evaluation during training."""

from typing import Any

import torch
from tqdm import tqdm

from apps.common.training.run_log import RunLog
from apps.common.training.run_state import RunState
from apps.finegrained.data.load import LabelledSplit
from apps.finegrained.evaluation.metrics import classification_metrics
from apps.finegrained.evaluation.pictures import draw_val_batch
from apps.finegrained.model.classifier import Classifier
from apps.finegrained.model.inference import predict_photos


def evaluate(classifier: Classifier, split: LabelledSplit, log: RunLog, state: RunState, **how: Any) -> None:
    """Log the metrics of a classifier, and keep it in best/ if no earlier one had a higher top-1.

    Args:
        how: `processes`, `batch_size` and `num_workers` of `predict_photos`.
    """
    with state.kept(log.folder, evaluating=True):
        logits = predict_photos(classifier, split.photos, name=split.name, **how)
    labels = torch.tensor([photo.label for photo in split.photos])
    metrics = classification_metrics(logits, labels, split.class_names).values
    log.write("eval", state.done, **metrics)
    tqdm.write(f"step {state.done:,}: top-1 {metrics['top1']:.3f}, top-5 {metrics['top5']:.3f}")
    if state.note_evaluation(metrics) and log.writes:
        classifier.save(log.folder / "best", metrics={"split": split.name, "step": state.done, **metrics})
        draw_val_batch(log.folder, split, logits)
