"""Train a detector on MobileNet V1: a light pyramid, or with --head ssd the reference.

    python apps/detection/train.py --backbone a075                    the embedded sample set, a few minutes on a CPU
    python apps/detection/train.py --backbone a100 --data PATH        your own data, at 300 pixels
    python apps/detection/train.py --resume runs/detection/NAME       go on where that run stopped

PATH has COCO json (annotations/instances_train.json and instances_val.json, or instances_train2017.json ..., the images
in train/ and val/ or images/), Pascal VOC XML (Annotations/, JPEGImages/) or YOLO txt with data.yaml; without a val
split, val is split off train. check.py finds errors in it. A run writes config.json, metrics.jsonl, metrics.json,
curves.png, train_batch.jpg (a training batch), val_batch.jpg (detections on val), last.pt (for --resume), best/ (for
eval.py and predict.py) and eval-val/ with report.html.
"""

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from apps.common.choices import OptimizerName
from apps.common.cli import run_command
from apps.common.options import TrainOptions
from apps.detection.choices import Assigner, Augment, Head, ScoreFunction


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TrainOptions):
    """Train a detector on MobileNet V1.

    example: python apps/detection/train.py --data PATH --backbone a100
    """

    backbone: str = "a075"
    """width of the backbone: a025, a050, a075, a100 (percent), or any aNNN from a010 to a200"""
    resolution: int | None = None
    """side of the square input in pixels, 32 or more; default 300, for the sample set 160"""
    data: str = "sample"
    """folder with COCO, Pascal VOC or YOLO annotations, or "sample": the embedded set, drawn on first use"""
    weights: str | None = None
    """initial weights: imagenet (the best published for the width), coco (a published detector), none, a run or
    model folder of this app, a weight file or a catalog name; default coco where the width has one (a075, a100), else
    imagenet; for the sample set none"""
    epochs: float | None = None
    """passes over the training images; default 120, for the sample set as many as fit in a few minutes"""
    lr: float | None = None
    """peak learning rate; default with adamw 0.01, else 0.05 (from random weights 0.2); from a whole detector 0.001
    with adamw, else 0.01; a tenth of it with --qat"""
    backbone_lr: float | None = None
    """backbone's learning rate as a multiple of --lr; default with adamw 0.03 for a detector's backbone and 0.1 for
    ImageNet's or a classifier's, else 1"""
    optimizer: OptimizerName | None = None
    """adamw, sgd (with Nesterov momentum 0.9) or rmsprop; default adamw, for an SSD sgd"""
    weight_decay: float | None = None
    """weight decay; depthwise filters, norms and biases have none; default 0.05 with adamw, else 4e-5"""
    head: Head | None = None
    """pyramid (one anchor per cell, from stride 8 on) or ssd (the reference); default the head of --weights, else
    pyramid"""
    assigner: Assigner | None = None
    """assignment of anchors to boxes (pyramid only): closest (ATSS) or aligned (TOOD: those that predict the box
    best); default closest"""
    loss: ScoreFunction = "sigmoid"
    """classification loss (SSD only): sigmoid (each class alone, as the reference) or softmax (as the SSD paper)"""
    fit_anchors: bool = False
    """anchor shapes fitted to the training boxes (SSD only), as many as the reference has"""
    augment: Augment | None = None
    """augmentation: full (crops, zoom-out, mirroring, colours), mirror or none; default full, for the sample set
    mirror"""
    repeat_threshold: float = 0.0
    """share of the images below which a class is rare: its images are repeated (repeat-factor sampling, 0.01 to
    0.1); 0 repeats none"""
    teacher: Path | None = None
    """run or model folder of a pyramid, usually a larger one, with the same classes, whose outputs are learnt, too;
    default none"""
    distill_weight: float = 0.5
    """weight of the teacher's outputs in the loss, from 0 to 1; the labels have the rest"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.detection.train:train", Config)

import torch

from apps.common.data.data_record import record_data
from apps.common.device import autocast, make_loader
from apps.common.evaluation.finish import eval_flags, last_words, save_best
from apps.common.training.budget import Budget
from apps.common.training.distributed import start_training
from apps.common.training.optim import Ema, lr_at, make_optimizer, set_lr, take_step
from apps.common.training.progress import Meter, make_progress, read_steps, stop_on_signals
from apps.common.training.replica import Replica
from apps.common.training.resume import resumed_config, run_to_resume
from apps.common.training.run_log import RunLog
from apps.common.training.run_state import RunState, bad_loss
from apps.common.training.sampling import StepSampler, run_lengths
from apps.common.training.start import load_start, start_record
from apps.detection import eval as eval_script
from apps.detection.boxes.postprocess import PostProcess
from apps.detection.data.batches import TrainingSet, collate, image_repeats
from apps.detection.data.load import load_splits
from apps.detection.evaluation.pictures import draw_train_batch
from apps.detection.evaluation.while_training import evaluate
from apps.detection.loss.criterion import make_criterion
from apps.detection.loss.distill_loss import distilled
from apps.detection.loss.teacher_outputs import load_teacher, teacher_outputs
from apps.detection.model.create import check_knobs
from apps.detection.model.detector import Detector
from apps.detection.model.pretrained import APP, PretrainedDetector, load_pretrained, start_network, usual_weights
from apps.detection.sample import SAMPLE_RESOLUTION, make_sample

LOG_EVERY = 20  # steps
SAMPLE_EPOCHS = 5.0
LOSSES = ("loss", "loss_classification", "loss_box", "loss_teacher")
FIRST_SCALE = 2.0**8  # of losses in fp16: they are sums over many anchors


def train(config: Config) -> dict[str, float]:
    """Run the training that `config` describes; returns the 12 COCO metrics of its best evaluation on val.

    Raises:
        ValueError: a setting or the data is wrong, or the loss is no longer finite.
    """
    config = resumed_config(config, run_to_resume(config))
    processes, device, amp, began = start_training(config)
    torch.manual_seed(config.seed)

    # Data
    on_sample = config.data == "sample"
    resolution = config.resolution if config.resolution is not None else SAMPLE_RESOLUTION if on_sample else 300
    width_mult = check_knobs(config.backbone, resolution)
    with processes.first_goes_first():
        root = make_sample() if on_sample else Path(config.data)
    train_split, val_split = load_splits(root, ("train", "val"), bad_data=config.bad_data, group_by=config.group_by)
    print(train_split.describe(), val_split.describe(), sep="\n")
    contents = {"train": train_split.content, "val": val_split.content}
    data_record = record_data(config.resume, train_split.class_names, teacher=config.teacher, **contents)
    augment = config.augment or ("mirror" if on_sample else "full")
    dataset = TrainingSet(train_split, resolution=resolution, augment=augment)
    repeats = image_repeats(dataset, config.repeat_threshold, name=config.data)
    lengths = run_lengths(config, len(dataset), default_epochs=SAMPLE_EPOCHS if on_sample else 120.0)
    loading = {"batch_size": config.batch_size, "num_workers": config.num_workers}

    # Model
    with processes.first_goes_first():
        weights = config.weights or ("none" if on_sample else usual_weights(width_mult))
        start = load_start(config.resume, PretrainedDetector, load_pretrained, weights, width_mult=width_mult)
        start = start.for_head(config.head or (None if config.weights else "pyramid"))
    print(f"starting from {start.summary}")
    head = start.head or config.head or "pyramid"
    check_flags(config, head)
    fit_seed = config.seed if config.fit_anchors else None
    network = start_network(start, train_split, head, width_mult, resolution, device, fit_seed=fit_seed, qat=config.qat)
    ema = Ema(network, decay=config.ema_decay)
    detector = Detector(
        network=ema.model,
        backbone=config.backbone,
        class_names=train_split.class_names,
        category_ids=train_split.category_ids,
        postprocess=PostProcess(config.loss),
        preprocessing=start.preprocessing,
    )
    criterion = make_criterion(head, network, loss=config.loss, assigner=config.assigner)
    teacher = load_teacher(config.teacher, detector, device) if config.teacher else None

    # Optimiser
    recipe = optimizer_recipe(config, start, head)
    optimizer = make_optimizer(recipe.name, network, **recipe.rates())
    scaler = torch.amp.GradScaler(device.type, init_scale=FIRST_SCALE, enabled=amp == "fp16")

    # Resume
    parts = {"network": network, "ema": ema, "optimizer": optimizer, "scaler": scaler}
    state = RunState(parts, metric="AP", patience=config.patience, resume=config.resume)
    facts = {"resolution": resolution, "num_photos": len(dataset), "num_steps": lengths.known_steps, "amp": amp}
    about = {"head": head, "optimizer": recipe._asdict(), **start_record(start)}
    log = state.open_log(config, app=APP, processes=processes, **facts, **data_record, **about)
    print(
        f"{config.backbone} at {resolution}x{resolution} pixels on {device}, amp {amp}: "
        f"{lengths.describe('images')}, {recipe.describe()}; run: {log.folder}"
    )

    # Loop
    sampler = StepSampler.of_run(
        config, dataset, lengths.num_steps, start_step=state.done, repeats=repeats, processes=processes
    )
    loader = make_loader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=config.num_workers)
    network.train()
    budget = Budget(config, lengths, began=began, processes=processes)
    replica = Replica(network, processes, accumulate=config.accumulate, sync_norm=config.sync_norm)
    meter = Meter(lengths.images_a_step, step=state.done)
    with stop_on_signals() as stopping, make_progress(state.done, lengths, shown=processes.is_first) as progress:
        look = partial(draw_train_batch, log, train_split.class_names)
        batches_of_steps = read_steps(loader, accumulate=config.accumulate, meter=meter, look=look)
        if state.owed:
            evaluate(detector, val_split, log, state, processes=processes, **loading)
        for step in budget.steps(state, log, progress):
            lr = lr_at(step, peak=recipe.lr, num_steps=lengths.num_steps, warmup_steps=lengths.warmup_steps)
            set_lr(optimizer, lr)
            totals, count = torch.zeros(2, device=device)
            with state.kept(log.folder):
                for number, (images, targets) in enumerate(next(batches_of_steps)):
                    images = images.to(device, non_blocking=True)
                    with autocast(device, amp):
                        output = replica(detector.preprocessing(images), number)
                    loss = criterion(output, network.anchors_cxcywh, targets.to(device))
                    if teacher:
                        loss = distilled(loss, output, teacher_outputs(teacher, images, amp), config.distill_weight)
                    sums = processes.mean(loss.sums.detach())
                    if not math.isfinite(sums.sum().item()):
                        photos = [dataset.records[key.item].path for key in sampler.batch(step, number)]
                        raise ValueError(bad_loss(LOSSES[: len(sums)], sums / loss.divisor.clamp(min=1), photos))
                    totals, count = totals + sums, count + loss.divisor
                    scaler.scale(loss.sums[0]).backward()
                count = processes.at_least_one(processes.mean(count))
                take_step(optimizer, scaler, replica, clip_norm=config.clip_norm, divide_by=count)
            ema.update(network)
            progress.update()

            done = state.done = step + 1
            last = done == lengths.num_steps
            if done % LOG_EVERY == 0 or last:
                losses = dict(zip(LOSSES, (totals / count).tolist(), strict=False))
                log.write("train", done, **losses, lr=lr, **meter.read(done))
                progress.set_postfix(loss=f"{losses['loss']:.3f}", refresh=False)
            if done % lengths.eval_every == 0 or last:
                evaluate(detector, val_split, log, state, processes=processes, **loading)
                meter.restart(done)
            if processes.is_first and (done % config.checkpoint_every == 0 or state.why_finished(lengths.num_steps)):
                state.save(log.folder)
            if processes.any(bool(stopping), device):
                break
    if not state.why_finished(lengths.num_steps):
        state.interrupt(log.folder, stopping, processes)
    if processes.is_first:
        finish(config, log, state, lengths.num_steps, photo=val_split.records[0].path)
    return state.best["metrics"]


def check_flags(config: Config, head: Head) -> None:
    """Raise ValueError for flags that have no effect with this head, or that are out of range."""
    if head != "ssd" and (config.loss != "sigmoid" or config.fit_anchors):
        raise ValueError(f"--loss and --fit-anchors are for an SSD, this is --head {head}: leave them out")
    for flag in ("assigner", "teacher"):
        if head != "pyramid" and getattr(config, flag):
            raise ValueError(f"--{flag} is for a pyramid, this is --head {head}: leave it out")
    if not 0 <= config.distill_weight <= 1:
        raise ValueError(f"distill_weight must be from 0 to 1, got {config.distill_weight}")
    if config.distill_weight != Config.distill_weight and config.teacher is None:
        raise ValueError("--distill-weight is for --teacher: give one, or leave it out")


class OptimizerRecipe(NamedTuple):
    """The settings of an optimiser; `backbone_lr` is relative to `lr`."""

    name: OptimizerName
    lr: float
    backbone_lr: float
    weight_decay: float

    def rates(self) -> dict[str, Any]:
        """The arguments of `make_optimizer`."""
        return {"lr": self.lr, "weight_decay": self.weight_decay, "lr_scales": {"backbone": self.backbone_lr}}

    def describe(self) -> str:
        """In words."""
        return f"{self.name}, learning rate {self.lr:g} ({self.lr * self.backbone_lr:g} in the backbone)"


def optimizer_recipe(config: Config, start: PretrainedDetector, head: Head) -> OptimizerRecipe:
    """The flags of the optimiser, with defaults for those not given (docs/detection_recipe.md).

    Raises:
        ValueError: the backbone's rate is below 0.
    """
    if config.backbone_lr is not None and not 0 <= config.backbone_lr < math.inf:
        raise ValueError(f"backbone_lr must be 0 (its weights stay) or more, got {config.backbone_lr}")
    name: OptimizerName = config.optimizer or ("sgd" if head == "ssd" else "adamw")
    if name == "adamw":
        of_whole = start.is_detector or not start.is_trained
        backbone_lr = 1.0 if of_whole else 0.03 if start.of_detector else 0.1
        usual = OptimizerRecipe(name, 0.001 if start.is_detector else 0.01, backbone_lr, 0.05)
    else:
        usual = OptimizerRecipe(name, 0.01 if start.is_detector else 0.05 if start.is_trained else 0.2, 1.0, 4e-5)
    return OptimizerRecipe(
        name,
        usual.lr * (0.1 if config.qat else 1.0) if config.lr is None else config.lr,
        usual.backbone_lr if config.backbone_lr is None else config.backbone_lr,
        usual.weight_decay if config.weight_decay is None else config.weight_decay,
    )


def finish(config: Config, log: RunLog, state: RunState, num_steps: int, *, photo: Path) -> None:
    """Write the final results of a run, and print a summary."""
    save_best(log, state, panels={"loss": list(LOSSES), "COCO metrics on val": ["AP", "AP50", "AP75"]})
    eval_script.evaluate(eval_script.Config(**eval_flags(config, log.folder)))
    print(last_words(APP, config, log.folder, state, num_steps, photo=photo))
