"""Train SSD on MobileNet V1.

    python apps/detection/train.py --backbone a075                    the embedded sample set, a few minutes on a CPU
    python apps/detection/train.py --backbone a100 --data PATH        your own data, at 300 pixels
    python apps/detection/train.py --resume runs/detection/NAME       go on where that run stopped

PATH has COCO json (annotations/instances_train.json and instances_val.json, or instances_train2017.json ..., the images
in train/ and val/ or images/), Pascal VOC XML (Annotations/, JPEGImages/) or YOLO txt with data.yaml; without a val
split, val is taken out of train. check.py looks for everything that is wrong with it. A run leaves config.json,
metrics.jsonl, metrics.json, curves.png, last.pt (for --resume) and best/ (for eval.py and predict.py).
"""

import dataclasses
import math
import signal
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from apps.common.checkpoint import Stateful, restore_state, save_json, save_state
from apps.common.cli import plain_message, run_command
from apps.common.device import Amp, autocast, choose_device, prepare_training
from apps.common.distributed import Processes, join_processes
from apps.common.optim import Ema, OptimizerName, lr_at, make_optimizer, set_lr
from apps.common.plots import plot_curves
from apps.common.progress import Meter, make_progress, stop_on_signals
from apps.common.runlog import STATE, RunLog, read_metrics, resumed_config
from apps.common.sampling import StepSampler, count_steps
from apps.detection.annotations import load_splits
from apps.detection.coco import BadData, CocoSplit
from apps.detection.data import Augment, TrainingSet, make_train_loader, read_some
from apps.detection.detector import Detector
from apps.detection.loss import ScoreFunction, SSDLoss
from apps.detection.metrics import coco_metrics, predict_split
from apps.detection.model import check_knobs, create_detector
from apps.detection.pretrained import APP, load_pretrained
from apps.detection.sample import SAMPLE_RESOLUTION, make_sample
from backbone.weights import unfold_norms

LOG_EVERY = 20  # steps
SAMPLE_EPOCHS = 9.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Train SSD on MobileNet V1."""

    backbone: str = "a075"
    """width: a025, a050, a075, a100 (percent), or any aNNN from a010 to a200"""
    resolution: int | None = None
    """side of the square input in pixels, 32 or more; default 300, for the sample set 160"""
    data: str = "sample"
    """a folder with COCO, Pascal VOC or YOLO annotations, or "sample": the embedded set, drawn on first use"""
    weights: str | None = None
    """what to start from: imagenet (the best published for the width), coco (a published detector), none, a run or
    model folder of this app, a weight file or a catalog name; default imagenet, for the sample set none"""
    epochs: float | None = None
    """passes over the training images; default 120, for the sample set as many as fit in a few minutes"""
    steps: int | None = None
    """optimiser steps, instead of --epochs"""
    batch_size: int = 32
    """images a step"""
    lr: float | None = None
    """peak learning rate; default 0.2 from random weights, 0.05 from a backbone's, 0.01 from a detector's"""
    optimizer: OptimizerName = "sgd"
    """sgd has Nesterov momentum 0.9"""
    weight_decay: float = 4e-5
    """not on depthwise filters, norms and biases"""
    warmup_steps: int | None = None
    """steps over which the learning rate rises to its peak, before a cosine brings it back to 0; default a tenth of
    the run, at most 500"""
    ema_decay: float = 0.998
    """of the moving average of the weights, which is what is evaluated and kept; 0 keeps the plain weights"""
    loss: ScoreFunction = "sigmoid"
    """classification: sigmoid (each class alone, the reference) or softmax (the SSD paper)"""
    augment: Augment | None = None
    """full (crops, zoom-out, mirroring, colours), mirror or none; default full, for the sample set mirror"""
    clip_norm: float = 5.0
    """gradients longer than this are shortened to it; 0 never does"""
    amp: Amp = "none"
    """mixed precision: bf16 or fp16"""
    bad_data: BadData = "refuse"
    """what to do about images and boxes that cannot be right: stop, or skip them and say how many"""
    eval_every: int | None = None
    """steps between evaluations; default a fifth of the run, at most 5,000; the last step is always evaluated"""
    checkpoint_every: int = 500
    """steps between training states for --resume"""
    seed: int = 0
    """of weights, order and augmentation"""
    num_workers: int = 2
    """processes that read and augment images; 0 does it in this one"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    out: Path | None = None
    """the run's folder; default runs/detection/<backbone>-<time>"""
    resume: Path | None = None
    """the folder of an interrupted run to go on with; its settings are kept"""


def train(config: Config) -> dict[str, float]:
    """Run the training that `config` describes.

    Returns:
        The 12 COCO metrics of the best evaluation on the val split.

    Raises:
        ValueError: a setting or the data is wrong, or the loss is no longer finite.
    """
    if config.resume:
        config = resumed_config(config, config.resume)
    prepare_training()
    processes, device_name = join_processes(config.device)
    processes.check_batch_size(config.batch_size)
    device = choose_device(device_name)
    torch.manual_seed(config.seed)

    # What to start from
    on_sample = config.data == "sample"
    resolution = config.resolution or (SAMPLE_RESOLUTION if on_sample else 300)
    check_knobs(config.backbone, resolution)
    with processes.first_goes_first():
        start = load_pretrained(config.weights or ("none" if on_sample else "imagenet"), backbone=config.backbone)
        root = make_sample() if on_sample else Path(config.data)
    print(f"starting from {start.summary}")

    # Data
    train_split, val_split = load_splits(root, ("train", "val"), bad_data=config.bad_data)
    for split in (train_split, val_split):
        print(split.describe())
    augment = config.augment or ("mirror" if on_sample else "full")
    dataset = TrainingSet(train_split, resolution=resolution, augment=augment)
    default_epochs = SAMPLE_EPOCHS if on_sample else 120.0
    num_steps = count_steps(
        config.steps, config.epochs, len(dataset), batch_size=config.batch_size, default=default_epochs
    )
    warmup_steps = min(500, num_steps // 10) if config.warmup_steps is None else config.warmup_steps
    eval_every = config.eval_every or min(5000, -(-num_steps // 5))

    # Model
    num_classes = len(train_split.class_names)
    network = create_detector(config.backbone, num_classes=num_classes, resolution=resolution, style=start.style)
    print(start.put_into(network, train_split.class_names))
    lr = config.lr if config.lr is not None else 0.01 if start.is_detector else 0.05 if start.state else 0.2
    network = network.to(device).to(memory_format=torch.channels_last)
    if start.folded:
        unfold_norms(network, start.preprocessing(read_some(train_split, resolution).to(device)))
    criterion = SSDLoss(config.loss, processes=processes)
    ema = Ema(network, decay=config.ema_decay)
    detector = Detector(
        network=ema.model,
        backbone=config.backbone,
        class_names=train_split.class_names,
        category_ids=train_split.category_ids,
        score_function=config.loss,
        preprocessing=start.preprocessing,
    )

    # Optimiser
    optimizer = make_optimizer(config.optimizer, network, lr=lr, weight_decay=config.weight_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=config.amp == "fp16")

    # Resume
    parts: dict[str, Stateful] = {"network": network, "ema": ema, "optimizer": optimizer, "scaler": scaler}
    done = 0
    best: dict[str, Any] = {"step": 0, "metrics": {"AP": -1.0}, "text": ""}
    if config.resume:
        state = restore_state(config.resume / STATE, parts)
        done, best = state["step"], state["best"]
        log = RunLog.reopen(config.resume, app=APP, step=done, processes=processes)
    else:
        facts = {"resolution": resolution, "num_steps": num_steps, "start": start.summary}
        log = RunLog.start(config.out, app=APP, config=config, processes=processes, **facts)
    print(
        f"{config.backbone} at {resolution}x{resolution} pixels on {device}: {num_steps:,} steps of "
        f"{config.batch_size} images, {num_steps * config.batch_size / len(dataset):.1f} epochs, learning rate {lr:g}; "
        f"run: {log.folder}"
    )

    # Loop
    sampler = StepSampler(
        len(dataset),
        batch_size=config.batch_size,
        num_steps=num_steps,
        start_step=done,
        seed=config.seed,
        processes=processes,
    )
    batches = iter(make_train_loader(dataset, sampler, num_workers=config.num_workers))
    network.train()
    meter = Meter(config.batch_size, step=done)
    with stop_on_signals() as stopping, make_progress(done, num_steps, shown=processes.is_first) as progress:
        for step in range(done, num_steps):
            try:
                with meter.waiting():
                    images, targets = next(batches)
                set_lr(optimizer, lr_at(step, peak=lr, num_steps=num_steps, warmup_steps=warmup_steps))
                with autocast(device, config.amp):
                    output = network(detector.preprocessing(images.to(device, non_blocking=True)))
                loss = criterion(output, network.anchors_cxcywh, targets.to(device))
                if not math.isfinite(processes.mean(loss.total).item()):
                    sums = f"classification {loss.classification.item()}, box {loss.box.item()}"
                    raise ValueError(f"the loss is not finite ({sums}): try a lower --lr")
            except ValueError as error:
                save_state(log.folder / STATE, parts, step=step, best=best)
                raise ValueError(
                    f"{plain_message(error)}; stopped at step {step}, go on with --resume {log.folder}"
                ) from error
            except RuntimeError:
                if stopping:  # the signal went to the whole process group and ended the data processes first
                    break
                raise
            scaler.scale(loss.total).backward()
            processes.average_gradients(network)
            if config.clip_norm:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            ema.update(network)
            progress.update()

            done, last = step + 1, step + 1 == num_steps
            if done % LOG_EVERY == 0 or last:
                losses = {"loss": loss.total, "loss_classification": loss.classification, "loss_box": loss.box}
                values = {name: processes.mean(value).item() for name, value in losses.items()}
                log.write("train", done, **values, lr=optimizer.param_groups[0]["lr"], **meter.read(done))
                progress.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
            if not last and processes.any(bool(stopping), device):
                break
            if done % eval_every == 0 or last:
                best = evaluate(detector, val_split, config, log, done, best, processes)
                meter.restart(done)
            if processes.is_first and (done % config.checkpoint_every == 0 or last):
                save_state(log.folder / STATE, parts, step=done, best=best)
    if done < num_steps:
        save_state(log.folder / STATE, parts, step=done, best=best)
        print(f"stopped by a signal after step {done}; go on with --resume {log.folder}")
        raise SystemExit(128 + (stopping or [signal.SIGTERM])[0])
    if not processes.is_first:
        return best["metrics"]

    save_json(log.folder / "metrics.json", {"split": "val", "step": best["step"], **best["metrics"]})
    panels = {"loss": ["loss", "loss_classification", "loss_box"], "COCO metrics on val": ["AP", "AP50", "AP75"]}
    plot_curves(log.folder / "curves.png", read_metrics(log.folder), panels=panels)
    print(f"{best['text']}\nbest of the evaluations on val, at step {best['step']:,}; the run is in {log.folder}")
    return best["metrics"]


def evaluate(
    detector: Detector,
    split: CocoSplit,
    config: Config,
    log: RunLog,
    step: int,
    best: dict[str, Any],
    processes: Processes,
) -> dict[str, Any]:
    """Measure the averaged weights, keep them in best/ if no earlier ones had a higher AP; returns the best so far."""
    results = predict_split(
        detector, split, batch_size=config.batch_size, num_workers=config.num_workers, processes=processes
    )
    metrics = coco_metrics(split, results)
    log.write("eval", step, **metrics.values)
    tqdm.write(f"step {step:,}: AP {metrics.values['AP']:.3f}, AP50 {metrics.values['AP50']:.3f}")
    if metrics.values["AP"] < best["metrics"]["AP"]:
        return best
    if processes.is_first:
        detector.save(log.folder / "best", metrics={"split": split.name, "step": step, **metrics.values})
    return {"step": step, "metrics": metrics.values, "text": metrics.text}


if __name__ == "__main__":
    run_command(train, Config)
