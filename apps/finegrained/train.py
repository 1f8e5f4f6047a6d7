"""Train a fine-grained classifier on MobileNet V1.

    python apps/finegrained/train.py --backbone a075                  the embedded sample set, a few minutes on a CPU
    python apps/finegrained/train.py --backbone a100 --data PATH      photos in folders by class, from ImageNet weights
    python apps/finegrained/train.py --resume runs/finegrained/NAME   go on where that run stopped

PATH holds split/class/photo, or class/photo (then a fifth of each class becomes val), or is a CSV; names of data sets
that torchvision downloads work too (docs/options.md). A run leaves config.json, metrics.jsonl, metrics.json,
curves.png, train_batch.jpg (what is learnt), val_batch.jpg (what is predicted), last.pt (for --resume), best/ (for
eval.py and predict.py) and eval-val/ with report.html.
"""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
    """sgd (with Nesterov momentum 0.9), rmsprop or adamw; the default of --lr is for sgd, adamw needs 0.003 or less"""
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

from apps.common.data.data_record import record_data
from apps.common.device import autocast, make_loader
from apps.common.evaluation.finish import eval_flags, last_words, save_best
from apps.common.pretrained import Pretrained, load_pretrained
from apps.common.training.budget import Budget
from apps.common.training.distributed import start_training
from apps.common.training.optim import Ema, lr_at, lr_scales_by_depth, make_optimizer, set_lr, take_step
from apps.common.training.progress import Meter, make_progress, read_steps, stop_on_signals
from apps.common.training.replica import Replica
from apps.common.training.resume import resumed_config, run_to_resume
from apps.common.training.run_log import RunLog
from apps.common.training.run_state import RunState, bad_loss
from apps.common.training.sampling import Lengths, StepSampler, run_lengths
from apps.common.training.start import load_start, start_record
from apps.finegrained import eval as eval_script
from apps.finegrained.data.batches import TrainingSet, balanced, class_weights, collate
from apps.finegrained.data.load import load_splits
from apps.finegrained.data.mix import Mix
from apps.finegrained.evaluation.pictures import draw_train_batch
from apps.finegrained.evaluation.while_training import evaluate
from apps.finegrained.loss.distill_loss import Distillation
from apps.finegrained.loss.teacher_outputs import load_teacher, teacher_outputs
from apps.finegrained.model.classifier import APP, Classifier
from apps.finegrained.model.pretrained import set_phase, start_network
from apps.finegrained.sample import SAMPLE_RESOLUTION, make_sample
from backbone.names import parse_backbone

LOG_EVERY = 20  # steps
SAMPLE_EPOCHS = 8.0
LOSSES = ("loss", "loss_labels", "loss_teacher")


def train(config: Config) -> dict[str, Any]:
    """Run the training that `config` describes; returns the metrics of its best evaluation on val.

    Raises:
        ValueError: a setting or the data is wrong, or the loss is no longer finite.
    """
    config = resumed_config(config, run_to_resume(config))
    width_mult = parse_backbone(config.backbone)
    check_flags(config)
    processes, device, amp, began = start_training(config)
    torch.manual_seed(config.seed)

    # Data
    on_sample = config.data == "sample"
    resolution = config.resolution or (SAMPLE_RESOLUTION if on_sample else 224)
    with processes.first_goes_first():
        data = str(make_sample()) if on_sample else config.data
    train_split, val_split = load_splits(
        data, ("train", "val"), bad_data=config.bad_data, open_photos=True, group_by=config.group_by
    )
    print(train_split.describe(), val_split.describe(), sep="\n")
    contents = {"train": train_split.content, "val": val_split.content}
    data_record = record_data(config.resume, train_split.class_names, teacher=config.teacher, **contents)
    num_classes = len(train_split.class_names)
    photos = balanced(train_split.photos) if config.balance == "sample" else train_split.photos
    augment = config.augment or ("mirror" if on_sample else "light")
    dataset = TrainingSet(photos, resolution=resolution, crop=Classifier.crop, augment=augment)
    lengths = run_lengths(config, len(dataset), default_epochs=SAMPLE_EPOCHS if on_sample else 15.0)
    loading = {"batch_size": config.batch_size, "num_workers": config.num_workers}

    # Model
    with processes.first_goes_first():
        weights = config.weights or ("none" if on_sample else "imagenet")
        start = load_start(config.resume, Pretrained, load_pretrained, weights, width_mult=width_mult, app=APP)
    print(f"starting from {start.summary}")
    network = start_network(start, train_split, width_mult, resolution, device, qat=config.qat)
    ema = Ema(network, decay=config.ema_decay)
    classifier = Classifier(
        network=ema.model,
        backbone=config.backbone,
        resolution=resolution,
        class_names=train_split.class_names,
        preprocessing=start.preprocessing,
    )
    teacher = load_teacher(config.teacher, classifier, device) if config.teacher else None

    # Optimiser
    recipe = optimizer_recipe(config, start)
    lengths.head_steps = min(lengths.num_steps, round(recipe.head_epochs * len(dataset) / lengths.images_a_step))
    rates: dict[str, Any] = {"lr": recipe.lr, "lr_scales": lr_scales_by_depth(network, decay=recipe.layer_decay)}
    optimizer = make_optimizer(config.optimizer, network, weight_decay=config.weight_decay, **rates)
    scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")
    criterion = make_criterion(config, [photo.label for photo in photos], num_classes).to(device)

    # Resume
    parts: dict[str, Any] = {"network": network, "ema": ema, "optimizer": optimizer, "scaler": scaler}
    state = RunState(parts, metric="top1", patience=config.patience, resume=config.resume)
    facts = {"resolution": resolution, "num_photos": len(dataset), "num_steps": lengths.known_steps, "amp": amp}
    log = state.open_log(config, app=APP, processes=processes, **facts, **data_record, **start_record(start))
    print(
        f"{config.backbone} at {resolution}x{resolution} pixels on {device}, amp {amp}: "
        f"{lengths.describe('photos')}, the first {lengths.head_steps:,} steps for the classifier alone, "
        f"{config.optimizer}, learning rate {recipe.lr:g}; run: {log.folder}"
    )

    # Loop
    sampler = StepSampler.of_run(config, dataset, lengths.num_steps, start_step=state.done, processes=processes)
    loader = make_loader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=config.num_workers)
    budget = Budget(config, lengths, began=began, processes=processes)
    replica = Replica(network, processes, accumulate=config.accumulate, sync_norm=config.sync_norm)
    meter = Meter(lengths.images_a_step, step=state.done)
    with stop_on_signals() as stopping, make_progress(state.done, lengths, shown=processes.is_first) as progress:
        mixing: Any = {"mixup": config.mixup, "cutmix": config.cutmix, "side": resolution}
        mix = Mix.random(config.seed, state.done * config.accumulate, **mixing)
        look = partial(draw_train_batch, log, train_split.class_names, mix)
        batches_of_steps = read_steps(loader, accumulate=config.accumulate, meter=meter, look=look)
        if state.owed:
            evaluate(classifier, val_split, log, state, processes=processes, **loading)
        for step in budget.steps(state, log, progress):
            set_phase(network, head_only=step < lengths.head_steps, freeze_bn=config.freeze_bn)
            lr = lr_of_phase(step, recipe, lengths)
            set_lr(optimizer, lr)
            totals = torch.zeros(len(LOSSES), device=device)
            with state.kept(log.folder):
                for number, (images, labels) in enumerate(next(batches_of_steps)):
                    images, labels = images.to(device, non_blocking=True), labels.to(device)
                    turn = step * config.accumulate + number
                    mix = Mix.random(config.seed, turn, **mixing)
                    with autocast(device, amp):
                        logits = replica(mix.images(classifier.preprocessing(images)), number).float()
                    teacher_logits = teacher_outputs(teacher, images, mix) if teacher else None
                    loss = torch.stack(criterion(logits, mix.targets(labels, num_classes), teacher_logits))
                    values = processes.mean(loss.detach())
                    if not math.isfinite(values.sum().item()):
                        batch_photos = [photos[key.item].path for key in sampler.batch(step, number)]
                        raise ValueError(bad_loss(LOSSES, values, batch_photos))
                    totals += values / config.accumulate
                    scaler.scale(loss[0] / config.accumulate).backward()
                take_step(optimizer, scaler, replica, clip_norm=config.clip_norm)
            ema.update(network)
            progress.update()
            done = state.done = step + 1
            last = done == lengths.num_steps
            if done % LOG_EVERY == 0 or last:
                losses = dict(zip(LOSSES if teacher else LOSSES[:1], totals.tolist(), strict=False))
                log.write("train", done, **losses, lr=lr, **meter.read(done))
                progress.set_postfix(loss=f"{losses['loss']:.3f}", refresh=False)
            if done % lengths.eval_every == 0 or last:
                evaluate(classifier, val_split, log, state, processes=processes, **loading)
                meter.restart(done)
            if processes.is_first and (done % config.checkpoint_every == 0 or state.why_finished(lengths.num_steps)):
                state.save(log.folder)
            if processes.any(bool(stopping), device):
                break
    if not state.why_finished(lengths.num_steps):
        state.interrupt(log.folder, stopping, processes)
    if processes.is_first:
        finish(config, log, state, lengths.num_steps, photo=val_split.photos[0].path)
    return state.best["metrics"]


def make_criterion(config: Config, labels: Sequence[int], num_classes: int) -> Distillation:
    """The loss that the flags describe; `labels` are those of the training photos."""
    return Distillation(
        distill_weight=config.distill_weight,
        temperature=config.temperature,
        label_smoothing=config.label_smoothing,
        class_weights=class_weights(labels, num_classes) if config.balance == "loss" else None,
    )


class OptimizerRecipe(NamedTuple):
    """What depends on where the network starts."""

    lr: float
    layer_decay: float  # each block's learning rate as a multiple of the next block's
    head_epochs: float  # at the start, that train the classifier alone


def optimizer_recipe(config: Config, start: Pretrained) -> OptimizerRecipe:
    """The flags of the optimiser, and the defaults of those that were not given."""
    lr, layer_decay, head_epochs = (0.05, 0.9, 2.0) if start.is_trained else (0.2, 1.0, 0.0)
    if config.qat:
        lr, head_epochs = lr / 10, 0.0
    return OptimizerRecipe(
        lr if config.lr is None else config.lr,
        layer_decay if config.layer_decay is None else config.layer_decay,
        head_epochs if config.head_epochs is None else config.head_epochs,
    )


def lr_of_phase(step: int, recipe: OptimizerRecipe, lengths: Lengths) -> float:
    """The learning rate of a step: each of the two phases has a warm-up and a cosine of its own."""
    first, end = (0, lengths.head_steps) if step < lengths.head_steps else (lengths.head_steps, lengths.num_steps)
    warmup_steps = min(lengths.warmup_steps, (end - first) // 2)
    return lr_at(step - first, peak=recipe.lr, num_steps=end - first, warmup_steps=warmup_steps)


def finish(config: Config, log: RunLog, state: RunState, num_steps: int, *, photo: Path) -> None:
    """Write what a run leaves at its end, and say how it ended."""
    save_best(log, state, panels={"loss": ["loss"], "val": ["top1", "top5"]})
    eval_script.evaluate(eval_script.Config(calibrate=True, **eval_flags(config, log.folder)))
    print(last_words(APP, config, log.folder, state, num_steps, photo=photo))


def check_flags(config: Config) -> None:
    """Raise ValueError for numbers that are out of range, or that change nothing."""
    for name in ("mixup", "cutmix"):
        if not 0 <= getattr(config, name) < math.inf:
            raise ValueError(f"{name} must be 0 (off) or more, got {getattr(config, name)}")
    given = (config.distill_weight, config.temperature) != (Config.distill_weight, Config.temperature)
    if given and config.teacher is None:
        raise ValueError("--distill-weight and --temperature are for --teacher: give one, or leave them out")
