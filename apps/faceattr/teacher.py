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
from typing import Any, Literal

from apps.common.choices import OptimizerName
from apps.common.cli import run_command
from apps.common.options import TrainOptions
from apps.faceattr.choices import Augment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TrainOptions):
    """Train a teacher of face attributes on labels.

    example: python apps/faceattr/teacher.py --data PATH --backbone resnet50
    """

    backbone: str = "a100"
    """width of MobileNet V1 (a100, ...) or classifier of torchvision (resnet50, ...)"""
    conv: Literal["separable", "full"] = "separable"
    """convolutions of a MobileNet V1: separable, or full (3x3)"""
    resolution: int | None = None
    """side of the square input in pixels, 32 or more; default 128, for the sample set 96"""
    data: tuple[str, ...] = ("sample",)
    """folders or CSV files of labelled faces, one or more, or "sample": the embedded set, drawn on first use"""
    weights: str | None = None
    """initial weights: imagenet, none, or for a width a weight file, a catalog name or a run of this app; default
    imagenet, for the sample set and full convolutions none"""
    epochs: float | None = None
    """passes over the training photos; default 15, for the sample set as many as fit in a minute or two"""
    lr: float | None = None
    """peak learning rate; default 0.02, from random weights 0.2"""
    optimizer: OptimizerName = "sgd"
    """sgd (with Nesterov momentum 0.9), rmsprop or adamw"""
    weight_decay: float = 4e-5
    """weight decay; depthwise filters, norms and biases have none"""
    augment: Augment | None = None
    """augmentation: full (jittered crops, mirroring, colours, blur), light or none; default full, for the sample
    set light"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.faceattr.teacher:train", Config)

import torch

from apps.common.checkpoint import save_json
from apps.common.device import autocast, choose_device, choose_precision, prepare_training
from apps.common.plots import plot_curves
from apps.common.training.distributed import join_processes
from apps.common.training.optim import Ema, lr_at, make_optimizer, set_lr, take_step
from apps.common.training.progress import Meter, make_progress, read_steps, stop_on_signals
from apps.common.training.run_log import RunLog, read_metrics, resumed_config
from apps.common.training.run_state import RunState, bad_loss
from apps.common.training.sampling import StepSampler, run_lengths
from apps.faceattr.data.batches import TrainingSet, make_train_loader
from apps.faceattr.data.load import load_splits
from apps.faceattr.evaluation.while_training import evaluate
from apps.faceattr.loss.distill_loss import count_known, label_loss
from apps.faceattr.model.pretrained import start_tagger
from apps.faceattr.model.tagger import APP
from apps.faceattr.sample import SAMPLE_RESOLUTION, make_sample

LOG_EVERY = 20  # steps
SAMPLE_EPOCHS = 26.0


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
    amp = choose_precision(device, config.amp)
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
    scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")
    augment = config.augment or ("light" if on_sample else "full")
    dataset = TrainingSet(train_split.paths, train_split.labels, resolution=resolution, augment=augment)
    default_epochs = SAMPLE_EPOCHS if on_sample else 15.0
    num_steps, warmup_steps, eval_every, photos_a_step = run_lengths(
        config, len(dataset), default_epochs=default_epochs
    )

    # Resume
    state = RunState(
        {"network": network, "ema": ema, "optimizer": optimizer, "scaler": scaler},
        metric="mean_ap",
        patience=config.patience,
        resume=config.resume,
    )
    facts = {"resolution": resolution, "num_photos": len(dataset), "num_steps": num_steps, "amp": amp, "start": started}
    log = RunLog.open(config, app=APP, step=state.done, processes=processes, **facts)
    if processes.is_first and not config.resume:
        state.save(log.folder)
    print(
        f"teacher {config.backbone} at {resolution}x{resolution} pixels on {device}, amp {amp}: {num_steps:,} steps of "
        f"{photos_a_step} photos, {num_steps * photos_a_step / len(dataset):.1f} epochs, learning rate {lr:g}; run: "
        f"{log.folder}"
    )

    # Loop
    sampler = StepSampler(
        len(dataset),
        batch_size=config.batch_size,
        num_steps=num_steps,
        accumulate=config.accumulate,
        start_step=state.done,
        seed=config.seed,
        processes=processes,
    )
    loader = make_train_loader(dataset, sampler, num_workers=config.num_workers)
    network.train()
    meter = Meter(photos_a_step, step=state.done)
    with stop_on_signals() as stopping, make_progress(state.done, num_steps, shown=processes.is_first) as progress:
        batches_of_steps = read_steps(loader, accumulate=config.accumulate, meter=meter)
        for step in range(state.done, num_steps):
            if state.why_finished(num_steps):
                break
            set_lr(optimizer, lr_at(step, peak=lr, num_steps=num_steps, warmup_steps=warmup_steps))
            loss_value = torch.zeros((), device=device)
            with state.kept(log.folder):
                batches = next(batches_of_steps)
                shares = processes.shares([count_known(labels).to(device) for _, labels, _ in batches])
                for number, ((images, labels, _), share) in enumerate(zip(batches, shares, strict=True)):
                    with autocast(device, amp):
                        logits = network(tagger.preprocessing(images.to(device, non_blocking=True))).float()
                    loss = label_loss(logits, labels.to(device), processes) * share
                    value = processes.mean(loss.detach())
                    if not math.isfinite(value.item()):
                        photos = [dataset.paths[draw.item] for draw in sampler.batch(step, number)]
                        raise ValueError(bad_loss(["loss"], (value / share)[None], photos))
                    loss_value += value
                    scaler.scale(loss).backward()
                take_step(optimizer, scaler, network, clip_norm=config.clip_norm, processes=processes)
            ema.update(network)
            progress.update()

            done = state.done = step + 1
            last = done == num_steps
            if done % LOG_EVERY == 0 or last:
                log.write("train", done, loss=loss_value.item(), lr=optimizer.param_groups[0]["lr"], **meter.read(done))
                progress.set_postfix(loss=f"{loss_value:.3f}", refresh=False)
            if done % eval_every == 0 or last:
                evaluate(
                    tagger,
                    val_split,
                    log,
                    state,
                    batch_size=config.batch_size,
                    num_workers=config.num_workers,
                    processes=processes,
                )
                meter.restart(done)
            if processes.is_first and (done % config.checkpoint_every == 0 or state.why_finished(num_steps)):
                state.save(log.folder)
            if processes.any(bool(stopping), device):
                break
    if not state.why_finished(num_steps):
        state.interrupt(log.folder, stopping, processes)
    if processes.is_first:
        finish(log, state, num_steps)
    return state.best["metrics"]


def finish(log: RunLog, state: RunState, num_steps: int) -> None:
    """Write what a run leaves at its end, and say how it ended."""
    best = state.best
    save_json(log.folder / "metrics.json", {"split": "val", "step": best["step"], **best["metrics"]})
    plot_curves(log.folder / "curves.png", read_metrics(log.folder), panels={"loss": ["loss"], "val": ["mean_ap"]})
    print(
        f"teacher: mean AP {best['metrics']['mean_ap']:.3f} on val at step {best['step']:,}; the run in {log.folder} "
        f"is finished: {state.why_finished(num_steps)}"
    )
