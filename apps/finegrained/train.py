"""Train a fine-grained classifier on MobileNet V1.

    python apps/finegrained/train.py --backbone a075                  the embedded sample set, a few minutes on a CPU
    python apps/finegrained/train.py --backbone a100 --data PATH      photos in folders by class, from ImageNet weights
    python apps/finegrained/train.py --resume runs/finegrained/NAME   go on where that run stopped

PATH holds split/class/photo, or class/photo (then every fifth photo is kept for val), or is a CSV; names of data sets
that torchvision downloads work too (README). A run leaves config.json, metrics.jsonl, metrics.json, curves.png,
last.pt (for --resume), best/ (for eval.py and predict.py) and eval-val/ with report.html.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

from apps.common.choices import OptimizerName
from apps.common.cli import run_command
from apps.common.options import TrainOptions
from apps.finegrained.choices import Augment, Balance, FreezeBn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TrainOptions):
    """Train a fine-grained classifier on MobileNet V1.

    example: python apps/finegrained/train.py --data PATH --backbone a100
    """

    backbone: str = "a075"
    """width of the backbone: a025, a050, a075, a100 (percent), or any aNNN from a010 to a200"""
    resolution: int | None = None
    """side of the square input in pixels, 32 or more; default 224, for the sample set 128"""
    data: str = "sample"
    """folder of photos by class, CSV file, name of a known data set, or "sample": the embedded set, drawn on first
    use"""
    weights: str | None = None
    """initial weights: imagenet (the best published for the width), none, a run or model folder of this app, a
    weight file or a catalog name; default imagenet, for the sample set none"""
    epochs: float | None = None
    """passes over the training photos; default 15, for the sample set as many as fit in a few minutes"""
    head_epochs: float | None = None
    """passes at the start, of --epochs, that train the classifier layer alone; default 2, from random weights 0"""
    lr: float | None = None
    """peak learning rate of the classifier layer; default 0.05, from random weights 0.2"""
    layer_decay: float | None = None
    """learning rate of a block as a multiple of the next block's; default 0.9, from random weights 1"""
    optimizer: OptimizerName = "sgd"
    """sgd (with Nesterov momentum 0.9), rmsprop or adamw"""
    weight_decay: float = 4e-5
    """weight decay; depthwise filters, norms and biases have none"""
    freeze_bn: FreezeBn = "none"
    """frozen parts of BatchNorm: none, stats (its statistics: it is in eval mode) or all (scale and shift, too)"""
    label_smoothing: float = 0.1
    """share of the label that is spread over all classes"""
    mixup: float = 0.0
    """alpha of mixup's Beta distribution; 0 is off"""
    cutmix: float = 0.0
    """alpha of cutmix's Beta distribution; 0 is off; with both, each batch draws one of them"""
    augment: Augment | None = None
    """augmentation: light (crops, mirroring, slightly other colours), full (larger changes, RandAugment-like),
    mirror or none; default light, for the sample set mirror"""
    balance: Balance = "none"
    """balance of unequal classes: none, sample (rare ones are shown more often) or loss (rare ones weigh more)"""
    teacher: Path | None = None
    """run or model folder of this app, with the same classes, whose probabilities are learnt, too; default none"""
    distill_weight: float = 0.5
    """weight of the teacher's probabilities in the loss, from 0 to 1; the labels have the rest"""
    temperature: float = 4.0
    """temperature that softens both networks' probabilities for distillation"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.finegrained.train:train", Config)

import torch
from torch import nn
from tqdm import tqdm

from apps.common.checkpoint import save_json
from apps.common.device import autocast, choose_device, choose_precision, prepare_training
from apps.common.images import stack_images
from apps.common.plots import plot_curves
from apps.common.pretrained import load_pretrained
from apps.common.training.distributed import Processes, join_processes
from apps.common.training.optim import Ema, lr_at, lr_scales_by_depth, make_optimizer, set_lr, take_step
from apps.common.training.progress import Meter, make_progress, read_steps, stop_on_signals
from apps.common.training.run_log import RunLog, read_metrics, resumed_config
from apps.common.training.run_state import RunState, bad_loss
from apps.common.training.sampling import StepSampler, run_lengths
from apps.finegrained import eval as eval_script
from apps.finegrained.data.batches import EvalSet, TrainingSet, balanced, class_weights, make_train_loader
from apps.finegrained.data.load import LabelledSplit, load_splits
from apps.finegrained.data.mix import Mix
from apps.finegrained.evaluation.metrics import classification_metrics
from apps.finegrained.loss.distill_loss import soft_loss
from apps.finegrained.model.classifier import APP, Classifier, create_classifier
from apps.finegrained.model.inference import predict_split
from apps.finegrained.sample import SAMPLE_RESOLUTION, make_sample
from backbone.mobilenet_v1 import MIN_RESOLUTION, MobileNetV1
from backbone.names import parse_backbone
from backbone.weights import unfold_norms

LOG_EVERY = 20  # steps
SAMPLE_EPOCHS = 8.0
LOSSES = ("loss", "loss_labels", "loss_teacher")


def train(config: Config) -> dict[str, Any]:
    """Run the training that `config` describes.

    Returns:
        The metrics of the best evaluation on the val split.

    Raises:
        ValueError: a setting or the data is wrong, or the loss is no longer finite.
    """
    if config.resume:
        config = resumed_config(config, config.resume)
    check_flags(config)
    width_mult = parse_backbone(config.backbone)
    prepare_training()
    processes, device_name = join_processes(config.device)
    processes.check_batch_size(config.batch_size)
    device = choose_device(device_name)
    amp = choose_precision(device, config.amp)
    torch.manual_seed(config.seed)

    # Data
    on_sample = config.data == "sample"
    with processes.first_goes_first():
        data = str(make_sample()) if on_sample else config.data
    train_split, val_split = load_splits(data, ("train", "val"), bad_data=config.bad_data)
    for split in (train_split, val_split):
        print(split.describe())
    num_classes = len(train_split.class_names)

    # Model
    with processes.first_goes_first():
        start = load_pretrained(config.weights or ("none" if on_sample else "imagenet"), width_mult=width_mult, app=APP)
    print(f"starting from {start.summary}")
    network = create_classifier(width_mult, num_classes=num_classes, style=start.style)
    print(start.put_into(network, train_split.class_names))
    network = network.to(device).to(memory_format=torch.channels_last)
    resolution = config.resolution or (SAMPLE_RESOLUTION if on_sample else 224)
    if start.folded:
        some = EvalSet(train_split.photos[:: -(-len(train_split.photos) // 64)], resolution=resolution, crop=1.0)
        unfold_norms(network, start.preprocessing(stack_images([some[i] for i in range(len(some))]).to(device)))
    ema = Ema(network, decay=config.ema_decay)
    classifier = Classifier(
        network=ema.model,
        backbone=config.backbone,
        resolution=resolution,
        class_names=train_split.class_names,
        preprocessing=start.preprocessing,
    )
    teacher = load_teacher(config.teacher, classifier, device) if config.teacher else None

    # Length, batches
    photos = balanced(train_split.photos) if config.balance == "sample" else train_split.photos
    augment = config.augment or ("mirror" if on_sample else "light")
    dataset = TrainingSet(photos, resolution=resolution, crop=classifier.crop, augment=augment)
    default_epochs = SAMPLE_EPOCHS if on_sample else 15.0
    num_steps, warmup_steps, eval_every, photos_a_step = run_lengths(
        config, len(dataset), default_epochs=default_epochs
    )
    head_epochs = config.head_epochs if config.head_epochs is not None else 2.0 if start.state else 0.0
    head_steps = min(num_steps, round(head_epochs * len(dataset) / photos_a_step))

    # Optimiser
    lr = config.lr if config.lr is not None else 0.05 if start.state else 0.2
    layer_decay = config.layer_decay if config.layer_decay is not None else 0.9 if start.state else 1.0
    scales = lr_scales_by_depth(network, decay=layer_decay)
    optimizer = make_optimizer(config.optimizer, network, lr=lr, weight_decay=config.weight_decay, lr_scales=scales)
    scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")
    weights = class_weights([p.label for p in photos], num_classes).to(device) if config.balance == "loss" else None
    criterion = nn.CrossEntropyLoss(weight=weights, label_smoothing=config.label_smoothing)

    # Resume
    state = RunState(
        {"network": network, "ema": ema, "optimizer": optimizer, "scaler": scaler},
        metric="top1",
        patience=config.patience,
        resume=config.resume,
    )
    facts = {
        "resolution": resolution,
        "num_photos": len(dataset),
        "num_steps": num_steps,
        "amp": amp,
        "start": start.summary,
    }
    log = RunLog.open(config, app=APP, step=state.done, processes=processes, **facts)
    if processes.is_first and not config.resume:
        state.save(log.folder)
    print(
        f"{config.backbone} at {resolution}x{resolution} pixels on {device}, amp {amp}: {num_steps:,} steps of "
        f"{photos_a_step} photos, {num_steps * photos_a_step / len(dataset):.1f} epochs, the first {head_steps:,} "
        f"steps for the classifier alone, learning rate {lr:g}; run: {log.folder}"
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
    meter = Meter(photos_a_step, step=state.done)
    with stop_on_signals() as stopping, make_progress(state.done, num_steps, shown=processes.is_first) as progress:
        batches_of_steps = read_steps(loader, accumulate=config.accumulate, meter=meter)
        for step in range(state.done, num_steps):
            if state.why_finished(num_steps):
                break
            head_only = step < head_steps
            set_phase(network, head_only=head_only, freeze_bn=config.freeze_bn)
            first, length = (0, head_steps) if head_only else (head_steps, num_steps - head_steps)
            set_lr(
                optimizer, lr_at(step - first, peak=lr, num_steps=length, warmup_steps=min(warmup_steps, length // 2))
            )
            sums = torch.zeros(len(LOSSES), device=device)
            with state.kept(log.folder):
                batches = next(batches_of_steps)
                for number, (images, labels) in enumerate(batches):
                    images, labels = images.to(device, non_blocking=True), labels.to(device)
                    batch_number = step * config.accumulate + number
                    mix = Mix.draw(config.seed, batch_number, mixup=config.mixup, cutmix=config.cutmix)
                    with autocast(device, amp):
                        logits = network(mix.images(classifier.preprocessing(images))).float()
                    loss = by_labels = criterion(logits, mix.targets(labels, num_classes))
                    taught = torch.zeros_like(loss)
                    if teacher:
                        seen = mix.images(teacher.preprocessing(images))
                        taught = soft_loss(logits, teacher.network, seen, config.temperature)
                        loss = (1 - config.distill_weight) * by_labels + config.distill_weight * taught
                    parts = torch.stack((loss, by_labels, taught)) / config.accumulate
                    values = processes.mean(parts.detach())
                    if not math.isfinite(values.sum().item()):
                        batch_photos = [photos[draw.item].path for draw in sampler.batch(step, number)]
                        raise ValueError(bad_loss(LOSSES, values * config.accumulate, batch_photos))
                    sums += values
                    scaler.scale(parts[0]).backward()
                take_step(optimizer, scaler, network, clip_norm=config.clip_norm, processes=processes)
            ema.update(network)
            progress.update()

            done = state.done = step + 1
            last = done == num_steps
            if done % LOG_EVERY == 0 or last:
                losses = dict(zip(LOSSES if teacher else LOSSES[:1], sums.tolist(), strict=False))
                rate = max(group["lr"] for group in optimizer.param_groups)
                log.write("train", done, **losses, lr=rate, **meter.read(done))
                progress.set_postfix(loss=f"{losses['loss']:.3f}", refresh=False)
            if done % eval_every == 0 or last:
                evaluate(classifier, val_split, config, log, state, processes)
                meter.restart(done)
            if processes.is_first and (done % config.checkpoint_every == 0 or state.why_finished(num_steps)):
                state.save(log.folder)
            if processes.any(bool(stopping), device):
                break
    if not state.why_finished(num_steps):
        state.interrupt(log.folder, stopping, processes)
    if processes.is_first:
        finish(config, log, state, num_steps)
    return state.best["metrics"]


def finish(config: Config, log: RunLog, state: RunState, num_steps: int) -> None:
    """Write what a run leaves at its end, and say how it ended."""
    best = state.best
    plot_curves(log.folder / "curves.png", read_metrics(log.folder), panels={"loss": ["loss"], "val": ["top1", "top5"]})
    save_json(log.folder / "metrics.json", {"split": "val", "step": best["step"], **best["metrics"]})
    eval_script.evaluate(
        eval_script.Config(
            checkpoint=log.folder / "best",
            data=config.data,
            calibrate=True,
            bad_data=config.bad_data,
            num_workers=config.num_workers,
            device=config.device,
            out=log.folder / "eval-val",
        )
    )
    print(
        f"best of the evaluations on val, at step {best['step']:,}; the run in {log.folder} is finished: "
        f"{state.why_finished(num_steps)}"
    )


def check_flags(config: Config) -> None:
    """Raise ValueError for numbers that are out of range, or that change nothing."""
    if config.resolution is not None and config.resolution < MIN_RESOLUTION:
        raise ValueError(f"resolution must be {MIN_RESOLUTION} pixels or more, got {config.resolution}")
    if not 0 <= config.label_smoothing < 1:
        raise ValueError(f"label_smoothing must be from 0 to below 1, got {config.label_smoothing}")
    for name in ("mixup", "cutmix"):
        if getattr(config, name) < 0:
            raise ValueError(f"{name} must be 0 (off) or more, got {getattr(config, name)}")
    if not 0 <= config.distill_weight <= 1:
        raise ValueError(f"distill_weight must be from 0 to 1, got {config.distill_weight}")
    if config.temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {config.temperature}")
    given = (config.distill_weight, config.temperature) != (Config.distill_weight, Config.temperature)
    if given and config.teacher is None:
        raise ValueError("--distill-weight and --temperature are for --teacher: give one, or leave them out")


def set_phase(network: MobileNetV1, *, head_only: bool, freeze_bn: FreezeBn) -> None:
    """Say what learns: the classifier alone, or everything; a frozen BatchNorm is in eval mode, its statistics rest."""
    network.train(not head_only)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not head_only or name.startswith("classifier."))
    if freeze_bn != "none":
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
                if freeze_bn == "all":
                    module.requires_grad_(False)


def load_teacher(folder: Path, student: Classifier, device: torch.device) -> Classifier:
    """A classifier to learn from, in eval mode.

    Raises:
        ValueError: it is none of this app, or has other classes than the student.
    """
    teacher = Classifier.load(folder, device=device)
    if teacher.class_names != student.class_names:
        other = sorted(set(teacher.class_names) ^ set(student.class_names))[:5]
        raise ValueError(f"--teacher {folder} has other classes than the data: {', '.join(other) or 'another order'}")
    return teacher


def evaluate(
    classifier: Classifier, split: LabelledSplit, config: Config, log: RunLog, state: RunState, processes: Processes
) -> None:
    """Measure the averaged weights, and keep them in best/ if none before had a higher top-1."""
    logits = predict_split(
        classifier, split, batch_size=config.batch_size, num_workers=config.num_workers, processes=processes
    )
    labels = torch.tensor([photo.label for photo in split.photos])
    metrics = classification_metrics(logits, labels, split.class_names).values
    log.write("eval", state.done, **metrics)
    tqdm.write(f"step {state.done:,}: top-1 {metrics['top1']:.3f}, top-5 {metrics['top5']:.3f}")
    if state.judge(metrics) and processes.is_first:
        classifier.save(log.folder / "best", metrics={"split": split.name, "step": state.done, **metrics})
