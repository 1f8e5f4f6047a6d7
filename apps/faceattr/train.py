"""Train a small network of face attributes, from a teacher's outputs, labels, or both.

    python apps/faceattr/train.py --backbone a025                     the embedded sample set: teacher and student
    python apps/faceattr/train.py --backbone a025 --data FACES --teacher runs/faceattr/TEACHER --unlabelled PHOTOS
    python apps/faceattr/train.py --backbone a025 --data FACES --teacher none             on labels alone
    python apps/faceattr/train.py --resume runs/faceattr/NAME         go on where that run stopped

FACES is a folder in CelebA's layout or a CSV of attributes, several may be given; PHOTOS is any folder of faces. A run
leaves config.json, metrics.jsonl, metrics.json, curves.png, last.pt (for --resume), best/ (for eval.py and predict.py)
and eval-val/ with report.html. MobileNet paper (arXiv 1704.04861), section 4.5.
"""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

from apps.common.choices import OptimizerName
from apps.common.cli import run_command
from apps.common.options import TrainOptions
from apps.faceattr.choices import Augment, TeacherOutputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TrainOptions):
    """Train a small network of face attributes, from a teacher's outputs, labels, or both.

    example: python apps/faceattr/train.py --data PATH --teacher runs/faceattr/TEACHER
    """

    backbone: str = "a025"
    """width of the backbone: a025, a050, a075, a100 (percent), or any aNNN from a010 to a200"""
    resolution: int | None = None
    """side of the square input in pixels, 32 or more; default 128, for the sample set 96"""
    data: tuple[str, ...] = ("sample",)
    """folders or CSV files of labelled faces, one or more, or "sample": the embedded set, drawn on first use"""
    unlabelled: tuple[Path, ...] = ()
    """folders of faces without labels, which the teacher labels; default none, the sample set has its own"""
    teacher: str | None = None
    """run or model folder of this app, or none: learn from labels alone; for the sample set one is trained first"""
    teacher_outputs: TeacherOutputs = "fly"
    """when the teacher runs: fly (on every augmented crop) or cached (once on each photo, outputs are kept)"""
    distill_weight: float = 1.0
    """weight of the teacher's outputs in the loss, from 0 to 1; the labels have the rest; 1 is the paper's way: no
    labels"""
    temperature: float = 1.0
    """temperature that softens both networks' sigmoids"""
    hint_weight: float = 0.0
    """weight of the difference between the teacher's features and a linear map of the student's; 0 is off"""
    withhold: float = 0.0
    """share of the training photos, 0 to 1, whose labels are ignored: measures what unlabelled photos are worth"""
    weights: str | None = None
    """initial weights: imagenet (the best published for the width), none, a weight file, a catalog name or a run of
    this app; default imagenet, for the sample set none"""
    epochs: float | None = None
    """passes over the training photos, unlabelled ones included; default 30, for the sample set as many as fit in a
    minute or two"""
    lr: float | None = None
    """peak learning rate; default 0.02, from random weights 0.2"""
    optimizer: OptimizerName = "sgd"
    """sgd (with Nesterov momentum 0.9), rmsprop or adamw"""
    weight_decay: float = 0.0
    """weight decay; depthwise filters, norms and biases have none; 0 as in the paper"""
    augment: Augment | None = None
    """augmentation: full (jittered crops, mirroring, colours, blur), light or none; default full, for the sample
    set light; the teacher sees the same crop"""
    patience: int = 0
    """evaluations in a row without a higher mean AP after which the run ends; 0 never ends it early. The paper's
    students are trained to the end: they do not overfit a teacher"""
    seed: int = 0
    """random seed of weights, order, augmentation and which labels are withheld"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.faceattr.train:train", Config)

import numpy as np
import torch
from torch import Tensor

from apps.common.checkpoint import save_json
from apps.common.device import Precision, autocast, choose_device, choose_precision, prepare_training
from apps.common.plots import plot_curves
from apps.common.training.distributed import join_processes
from apps.common.training.optim import Ema, lr_at, make_optimizer, set_lr, take_step
from apps.common.training.progress import Meter, make_progress, read_steps, stop_on_signals
from apps.common.training.run_log import RunLog, read_metrics, resumed_config
from apps.common.training.run_state import RunState, bad_loss
from apps.common.training.sampling import StepSampler, run_lengths
from apps.faceattr import eval as eval_script
from apps.faceattr import teacher as teacher_script
from apps.faceattr.data.batches import TrainingSet, make_train_loader
from apps.faceattr.data.listing import UNKNOWN
from apps.faceattr.data.load import find_unlabelled, load_splits, measuring_splits, without_known
from apps.faceattr.evaluation.while_training import evaluate, measure
from apps.faceattr.loss.distill_loss import Distillation, DistillLoss, count_known
from apps.faceattr.loss.teacher_outputs import cached_outputs
from apps.faceattr.model.create import num_pooled_features, pooled_features
from apps.faceattr.model.pretrained import start_tagger
from apps.faceattr.model.tagger import APP, Tagger
from apps.faceattr.sample import SAMPLE_RESOLUTION, make_sample

LOG_EVERY = 20  # steps
SAMPLE_EPOCHS = 12.0
LOSSES = tuple("loss" if name == "total" else f"loss_{name}" for name in DistillLoss._fields)
SAMPLE_TEACHER = "a050"


def train(config: Config) -> dict[str, Any]:
    """Run the training that `config` describes.

    Returns:
        The metrics of the best evaluation on the val split.

    Raises:
        ValueError: a setting or the data is wrong, or the loss is no longer finite.
    """
    if config.resume:
        config = resumed_config(config, config.resume)
    check(config)
    prepare_training()
    processes, device_name = join_processes(config.device)
    processes.check_batch_size(config.batch_size)
    device = choose_device(device_name)
    amp = choose_precision(device, config.amp)

    # Teacher
    on_sample = tuple(config.data) == ("sample",)
    if config.teacher is None:
        config = dataclasses.replace(config, teacher=str(train_teacher(config, on_sample=on_sample)))
    teacher = None if config.teacher == "none" else Tagger.load(Path(str(config.teacher)), device=device)
    torch.manual_seed(config.seed)

    # Data
    with processes.first_goes_first():
        sample = make_sample() if on_sample else None
    data = [str(sample)] if sample else list(config.data)
    wanted = teacher.attributes if teacher else None
    train_split, val_split = load_splits(data, ("train", "val"), attributes=wanted, bad_data=config.bad_data)
    for split in (train_split, val_split):
        print(split.describe())
    folders = [sample / "unlabelled"] if sample and teacher else list(config.unlabelled)
    extra, left_out = without_known(find_unlabelled(folders), measuring_splits(data)) if folders else ([], "")
    if left_out:
        print(left_out)
    known = withheld(train_split.labels, config.withhold, config.seed)
    unknown = np.full((len(extra), known.shape[1]), UNKNOWN, dtype=known.dtype)
    paths, labels = [*train_split.paths, *extra], np.concatenate((known, unknown))
    if folders or config.withhold:
        print(f"{len(extra):,} photos without labels; the labels of {config.withhold:.0%} of the others are withheld")

    # Model
    weights = config.weights or ("none" if on_sample else "imagenet")
    resolution = config.resolution or (SAMPLE_RESOLUTION if on_sample else 128)
    with processes.first_goes_first():
        tagger, started = start_tagger(
            config.backbone,
            weights=weights,
            resolution=resolution,
            attributes=train_split.attributes,
            photos=train_split.paths,
            device=device,
        )
    print(f"starting from {started}")
    network = tagger.network
    ema = Ema(network, decay=config.ema_decay)
    tagger = dataclasses.replace(tagger, network=ema.model)
    if teacher:
        widths = num_pooled_features(network), num_pooled_features(teacher.network)
        criterion = Distillation(
            distill_weight=config.distill_weight,
            temperature=config.temperature,
            hint_weight=config.hint_weight,
            features=widths,
            processes=processes,
        ).to(device)
    else:
        criterion = Distillation(distill_weight=0.0, processes=processes)

    # Optimiser
    lr = config.lr if config.lr is not None else 0.2 if weights == "none" else 0.02
    learning = torch.nn.ModuleDict({"network": network, "criterion": criterion})
    optimizer = make_optimizer(config.optimizer, learning, lr=lr, weight_decay=config.weight_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")
    augment = config.augment or ("light" if on_sample else "full")
    numbers: dict[str, Any] = {"batch_size": config.batch_size, "num_workers": config.num_workers}
    taught_train = None
    if teacher and config.teacher_outputs == "cached":
        with processes.first_goes_first():
            taught_train = cached_outputs(teacher, Path(str(config.teacher)), paths, **numbers)
    dataset = TrainingSet(paths, labels, resolution=resolution, augment=augment, taught=taught_train)
    default_epochs = SAMPLE_EPOCHS if on_sample else 30.0
    num_steps, warmup_steps, eval_every, photos_a_step = run_lengths(
        config, len(dataset), default_epochs=default_epochs
    )

    # Resume
    state = RunState(
        {"learning": learning, "ema": ema, "optimizer": optimizer, "scaler": scaler},
        metric="mean_ap",
        patience=config.patience,
        resume=config.resume,
    )
    facts = {"resolution": resolution, "num_photos": len(dataset), "num_steps": num_steps, "amp": amp, "start": started}
    log = RunLog.open(config, app=APP, step=state.done, processes=processes, **facts)
    if processes.is_first and not config.resume:
        state.save(log.folder)
    taught_val: Tensor | None = None
    if teacher:
        measured, taught_val = measure(teacher, val_split, processes=processes, **numbers)
        print(f"the teacher ({teacher.backbone}) has a mean AP of {measured['mean_ap']:.3f} on val")
        if not config.resume:
            log.write("teacher", 0, **measured)
    print(
        f"{config.backbone} at {resolution}x{resolution} pixels on {device}, amp {amp}: {num_steps:,} steps of "
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
            sums = torch.zeros(len(LOSSES), device=device)
            with state.kept(log.folder):
                batches = next(batches_of_steps)
                shares = processes.shares([count_known(targets).to(device) for _, targets, _ in batches])
                for number, ((images, targets, taught), share) in enumerate(zip(batches, shares, strict=True)):
                    images, targets = images.to(device, non_blocking=True), targets.to(device)
                    with autocast(device, amp), pooled_features(network) as mine:
                        logits = network(tagger.preprocessing(images)).float()
                    features = None
                    if teacher and taught_train is None:
                        taught, theirs = ask(teacher, images, amp)
                        features = mine[0].float(), theirs
                    wanted = taught.to(device) if teacher else None
                    loss = torch.stack(criterion(logits, targets, wanted, features, (share, 1 / config.accumulate)))
                    values = processes.mean(loss.detach())
                    if not math.isfinite(values.sum().item()):
                        photos = [paths[draw.item] for draw in sampler.batch(step, number)]
                        raise ValueError(bad_loss(LOSSES, values, photos))
                    sums += values
                    scaler.scale(loss[0]).backward()
                take_step(optimizer, scaler, learning, clip_norm=config.clip_norm, processes=processes)
            ema.update(network)
            progress.update()

            done = state.done = step + 1
            last = done == num_steps
            if done % LOG_EVERY == 0 or last:
                losses = dict(zip(LOSSES, sums.tolist(), strict=True))
                log.write("train", done, **losses, lr=optimizer.param_groups[0]["lr"], **meter.read(done))
                progress.set_postfix(loss=f"{losses['loss']:.3f}", refresh=False)
            if done % eval_every == 0 or last:
                evaluate(tagger, val_split, log, state, taught=taught_val, processes=processes, **numbers)
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
    save_json(log.folder / "metrics.json", {"split": "val", "step": best["step"], **best["metrics"]})
    plot_curves(log.folder / "curves.png", read_metrics(log.folder), panels={"loss": ["loss"], "val": ["mean_ap"]})
    eval_script.evaluate(
        eval_script.Config(
            checkpoint=log.folder / "best",
            data=tuple(config.data),
            calibrate=True,
            bad_data=config.bad_data,
            num_workers=config.num_workers,
            device=config.device,
            out=log.folder / "eval-val",
        )
    )
    print(
        f"student: mean AP {best['metrics']['mean_ap']:.3f} on val at step {best['step']:,}; the run in {log.folder} "
        f"is finished: {state.why_finished(num_steps)}"
    )


def check(config: Config) -> None:
    """Raise ValueError for numbers that are out of range, or that change nothing."""
    if not 0 <= config.withhold <= 1:
        raise ValueError(f"withhold must be from 0 to 1, got {config.withhold}")
    if config.teacher_outputs == "cached" and config.hint_weight:
        raise ValueError("--hint-weight needs the teacher's features: it does not go with --teacher-outputs cached")
    if config.teacher == "none":
        if config.withhold == 1:
            raise ValueError("--withhold 1 with --teacher none: no label is left to learn from")
        needs = {"distill_weight", "temperature", "hint_weight", "unlabelled", "teacher_outputs"}
        for field in dataclasses.fields(config):
            if field.name in needs and getattr(config, field.name) != field.default:
                raise ValueError(f"--{field.name.replace('_', '-')} needs a --teacher")


def train_teacher(config: Config, *, on_sample: bool) -> Path:
    """Train the teacher that is missing, and return its run.

    Raises:
        ValueError: the data is not the sample set: a teacher of one's own photos is worth settings of its own.
    """
    if not on_sample:
        raise ValueError(
            "--teacher is missing: train one with `python apps/faceattr/teacher.py --data ...` and give its run, or "
            "give --teacher none to learn from labels alone"
        )
    out = config.out / "teacher" if config.out else Path("runs") / APP / f"teacher-{time.strftime('%Y%m%d-%H%M%S')}"
    teacher_script.train(
        teacher_script.Config(
            backbone=SAMPLE_TEACHER,
            resolution=config.resolution,
            seed=config.seed,
            num_workers=config.num_workers,
            device=config.device,
            out=out,
        )
    )
    return out


def withheld(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A copy of labels (N, A) in which a seeded `share` of the rows is unknown."""
    labels = labels.copy()
    chosen = np.random.default_rng((seed, 2)).permutation(len(labels))[: round(share * len(labels))]
    labels[chosen] = UNKNOWN
    return labels


@torch.no_grad()
def ask(teacher: Tagger, images: Tensor, amp: Precision) -> tuple[Tensor, Tensor]:
    """The teacher's logits (B, A) and pooled features (B, F) of images (B, 3, H, W) uint8: the student's own crops."""
    with autocast(images.device, amp), pooled_features(teacher.network) as seen:
        logits = teacher.network(teacher.preprocessing(images)).float()
    return logits, seen[0].float()
