"""Evaluation during training."""

from typing import Any

from tqdm import tqdm

from apps.common.training.run_log import RunLog
from apps.common.training.run_state import RunState
from apps.detection.data.coco_split import CocoSplit
from apps.detection.evaluation.analysis import best_threshold, whole_curve
from apps.detection.evaluation.errors import match_detections
from apps.detection.evaluation.metrics import run_cocoeval, shown, summarise
from apps.detection.evaluation.pictures import draw_val_batch
from apps.detection.model.detector import Detector
from apps.detection.model.inference import predict_split


def evaluate(detector: Detector, split: CocoSplit, log: RunLog, state: RunState, **how: Any) -> None:
    """Log the COCO metrics of a detector, and keep it in best/ if no earlier one had a higher AP.

    Args:
        how: `processes`, `batch_size` and `num_workers` of `predict_split`.
    """
    with state.kept(log.folder, evaluating=True):
        results = predict_split(detector, split, **how)
    evaluation = run_cocoeval(split, results)
    metrics = summarise(evaluation)
    log.write("eval", state.done, **metrics.values)
    tqdm.write(f"step {state.done:,}: AP {shown(metrics.values['AP'])}, AP50 {shown(metrics.values['AP50'])}")
    if state.note_evaluation(metrics.values) and log.writes:
        detector.threshold = best_threshold(whole_curve(match_detections(evaluation, split)))
        detector.save(log.folder / "best", metrics={"split": split.name, "step": state.done, **metrics.values})
        draw_val_batch(log.folder, split, results, threshold=detector.usual_threshold, iou=detector.postprocess.nms_iou)
