"""Train a teacher on labels: a network as large as you like, which train.py then distils into a small one.

    python apps/faceattr/teacher.py --backbone a100 --data FACES           from ImageNet weights
    python apps/faceattr/teacher.py --backbone resnet50 --data FACES MORE  any classifier of torchvision
    python apps/faceattr/teacher.py --backbone a100 --conv full            MobileNet's full-convolution twin (Table 4)
    python apps/faceattr/teacher.py --resume runs/faceattr/NAME            go on where that run stopped

A run leaves config.json, metrics.jsonl, metrics.json, curves.png, last.pt (for --resume) and best/, which train.py
takes as --teacher.
"""

import dataclasses
import math
import signal
from pathlib import Path
from typing import Any

import torch

from apps.common.checkpoint import Stateful, restore_state, save_json, save_state
from apps.common.cli import plain_message, run_command
from apps.common.device import Amp, autocast, choose_device, prepare_training
from apps.common.distributed import join_processes
from apps.common.optim import Ema, OptimizerName, lr_at, make_optimizer, set_lr
from apps.common.plots import plot_curves
from apps.common.progress import Meter, make_progress, stop_on_signals
from apps.common.runlog import STATE, RunLog, read_metrics, resumed_config
from apps.common.sampling import StepSampler, count_steps
from apps.faceattr.attributes import BadData, load_splits
from apps.faceattr.data import Augment, TrainingSet, make_train_loader
from apps.faceattr.distill import label_loss
from apps.faceattr.measure import keep_best
from apps.faceattr.sample import SAMPLE_RESOLUTION, make_sample
from apps.faceattr.start import start_tagger
from apps.faceattr.tagger import APP
from backbone.mobilenet_v1 import Conv

LOG_EVERY = 20  # steps
SAMPLE_EPOCHS = 26.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Train a teacher of face attributes on labels."""

    backbone: str = "a100"
    """a width of MobileNet V1 (a100, ...), or a classifier of torchvision (resnet50, ...)"""
    conv: Conv = "separable"
    """of a MobileNet V1: separable, or full 3x3 convolutions"""
    resolution: int | None = None
    """side of the square input in pixels, 32 or more; default 128, for the sample set 96"""
    data: tuple[str, ...] = ("sample",)
    """folders or CSV files of labelled faces, one or more, or "sample": the embedded set, drawn on first use"""
    weights: str | None = None
    """what to start from: imagenet, none, or for a width a weight file, a catalog name or a run of this app; default
    imagenet, for the sample set and full convolutions none"""
    epochs: float | None = None
    """passes over the training photos; default 15, for the sample set as many as fit in a minute or two"""
    steps: int | None = None
    """optimiser steps, instead of --epochs"""
    batch_size: int = 32
    """photos a step"""
    lr: float | None = None
    """peak learning rate; default 0.2 from random weights, else 0.02"""
    optimizer: OptimizerName = "sgd"
    """sgd has Nesterov momentum 0.9"""
    weight_decay: float = 4e-5
    """not on depthwise filters, norms and biases"""
    warmup_steps: int | None = None
    """steps over which the learning rate rises to its peak, before a cosine brings it back to 0; default a tenth of
    the run, at most 500"""
    ema_decay: float = 0.998
    """of the moving average of the weights, which is what is evaluated and kept; 0 keeps the plain weights"""
    augment: Augment | None = None
    """full (jittered crops, mirroring, colours, blur), light or none; default full, for the sample set light"""
    clip_norm: float = 5.0
    """gradients longer than this are shortened to it; 0 never does"""
    amp: Amp = "none"
    """mixed precision: bf16 or fp16"""
    bad_data: BadData = "refuse"
    """what to do about photos and labels that cannot be right: stop, or skip them and say how many"""
    eval_every: int | None = None
    """steps between evaluations; default a fifth of the run, at most 5,000; the last step is always evaluated"""
    checkpoint_every: int = 500
    """steps between training states for --resume"""
    seed: int = 0
    """of weights, order and augmentation"""
    num_workers: int = 2
    """processes that read and augment photos; 0 does it in this one"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    out: Path | None = None
    """the run's folder; default runs/faceattr/<backbone>-<time>"""
    resume: Path | None = None
    """the folder of an interrupted run to go on with; its settings are kept"""


def train(config: Config) -> dict[str, Any]:
    """Run the training that `config` describes.

    Returns:
        The metrics of the best evaluation on the val split.

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

    # Data
    on_sample = tuple(config.data) == ("sample",)
    with processes.first_goes_first():
        data = [str(make_sample())] if on_sample else list(config.data)
    train_split, val_split = load_splits(data, ("train", "val"), bad_data=config.bad_data)
    for split in (train_split, val_split):
        print(split.describe())

    # Model
    weights = config.weights or ("none" if on_sample or config.conv == "full" else "imagenet")
    resolution = config.resolution or (SAMPLE_RESOLUTION if on_sample else 128)
    with processes.first_goes_first():
        tagger, started = start_tagger(
            config.backbone,
            weights=weights,
            resolution=resolution,
            attributes=train_split.attributes,
            photos=train_split.paths,
            device=device,
            conv=config.conv,
        )
    print(f"starting from {started}")
    network = tagger.network
    ema = Ema(network, decay=config.ema_decay)
    tagger = dataclasses.replace(tagger, network=ema.model)

    # Optimiser
    lr = config.lr if config.lr is not None else 0.2 if weights == "none" else 0.02
    optimizer = make_optimizer(config.optimizer, network, lr=lr, weight_decay=config.weight_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=config.amp == "fp16")
    augment = config.augment or ("light" if on_sample else "full")
    dataset = TrainingSet(train_split.paths, train_split.labels, resolution=resolution, augment=augment)
    num_steps = count_steps(
        config.steps,
        config.epochs,
        len(dataset),
        batch_size=config.batch_size,
        default=SAMPLE_EPOCHS if on_sample else 15.0,
    )
    warmup_steps = min(500, num_steps // 10) if config.warmup_steps is None else config.warmup_steps
    eval_every = config.eval_every or min(5000, -(-num_steps // 5))

    # Resume
    parts: dict[str, Stateful] = {"network": network, "ema": ema, "optimizer": optimizer, "scaler": scaler}
    done = 0
    best: dict[str, Any] = {"step": 0, "metrics": {"mean_ap": -1.0}}
    if config.resume:
        state = restore_state(config.resume / STATE, parts)
        done, best = state["step"], state["best"]
        log = RunLog.reopen(config.resume, app=APP, step=done, processes=processes)
    else:
        log = RunLog.start(
            config.out,
            app=APP,
            config=config,
            processes=processes,
            resolution=resolution,
            num_steps=num_steps,
            start=started,
        )
    print(
        f"teacher {config.backbone} at {resolution}x{resolution} pixels on {device}: {num_steps:,} steps of "
        f"{config.batch_size} photos, {num_steps * config.batch_size / len(dataset):.1f} epochs, learning rate {lr:g}; "
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
            set_lr(optimizer, lr_at(step, peak=lr, num_steps=num_steps, warmup_steps=warmup_steps))
            try:
                with meter.waiting():
                    images, labels, _ = next(batches)
                with autocast(device, config.amp):
                    logits = network(tagger.preprocessing(images.to(device, non_blocking=True))).float()
                loss = label_loss(logits, labels.to(device), processes)
                loss_value = processes.mean(loss).item()
                if not math.isfinite(loss_value):
                    raise ValueError("the loss is not finite: try a lower --lr")
            except ValueError as error:
                save_state(log.folder / STATE, parts, step=step, best=best)
                raise ValueError(
                    f"{plain_message(error)}; stopped at step {step}, go on with --resume {log.folder}"
                ) from error
            except RuntimeError:
                if stopping:  # the signal went to the whole process group and ended the data processes first
                    break
                raise
            scaler.scale(loss).backward()
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
                log.write("train", done, loss=loss_value, lr=optimizer.param_groups[0]["lr"], **meter.read(done))
                progress.set_postfix(loss=f"{loss_value:.3f}", refresh=False)
            if not last and processes.any(bool(stopping), device):
                break
            if done % eval_every == 0 or last:
                best = keep_best(
                    tagger,
                    val_split,
                    log,
                    done,
                    best,
                    batch_size=config.batch_size,
                    num_workers=config.num_workers,
                    processes=processes,
                )
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
    plot_curves(log.folder / "curves.png", read_metrics(log.folder), panels={"loss": ["loss"], "val": ["mean_ap"]})
    print(f"teacher: mean AP {best['metrics']['mean_ap']:.3f} on val at step {best['step']:,}; run: {log.folder}")
    return best["metrics"]


if __name__ == "__main__":
    run_command(train, Config)
