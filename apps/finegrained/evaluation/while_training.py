"""Evaluation in the middle of training."""

import torch
from tqdm import tqdm

from apps.common.training.distributed import Processes
from apps.common.training.run_log import RunLog
from apps.common.training.run_state import RunState
from apps.finegrained.data.load import LabelledSplit
from apps.finegrained.evaluation.metrics import classification_metrics
from apps.finegrained.model.classifier import Classifier
from apps.finegrained.model.inference import predict_split


def evaluate(
    classifier: Classifier,
    split: LabelledSplit,
    log: RunLog,
    state: RunState,
    *,
    batch_size: int,
    num_workers: int,
    processes: Processes,
) -> None:
    """Log the metrics of a classifier, and keep it in best/ if no earlier one had a higher top-1."""
    with state.kept(log.folder, evaluating=True):
        logits = predict_split(classifier, split, batch_size=batch_size, num_workers=num_workers, processes=processes)
    labels = torch.tensor([photo.label for photo in split.photos])
    metrics = classification_metrics(logits, labels, split.class_names).values
    log.write("eval", state.done, **metrics)
    tqdm.write(f"step {state.done:,}: top-1 {metrics['top1']:.3f}, top-5 {metrics['top5']:.3f}")
    if state.note_evaluation(metrics) and processes.is_first:
        classifier.save(log.folder / "best", metrics={"split": split.name, "step": state.done, **metrics})
