"""Train a small network of face attributes, from a teacher's outputs, labels, or both.

    python apps/faceattr/train.py --backbone a025                     the embedded sample set: teacher and student
    python apps/faceattr/train.py --backbone a025 --data FACES --teacher runs/faceattr/TEACHER --unlabelled PHOTOS
    python apps/faceattr/train.py --backbone a025 --data FACES --teacher none             on labels alone
    python apps/faceattr/train.py --resume runs/faceattr/NAME         go on where that run stopped

FACES is a folder in CelebA's layout or a CSV of attributes, several may be given; PHOTOS is any folder of faces. A run
leaves config.json, metrics.jsonl, metrics.json, curves.png, train_batch.jpg (what is learnt), val_batch.jpg (what is
predicted), last.pt (for --resume), best/ (for eval.py and predict.py) and eval-val/ with report.html. MobileNet paper
(arXiv 1704.04861), section 4.5.
"""

import dataclasses
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

from apps.common.choices import OptimizerName
from apps.common.cli import is_set, run_command
from apps.common.options import TrainOptions
from apps.faceattr.choices import Augment, Conv, TeacherOutputs


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
    """folders or tar shards of faces without labels, which the teacher labels; default none, the sample set has its
    own"""
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
    conv: Conv = "separable"
    """convolutions of a MobileNet V1: separable, or full (3x3)"""
    weights: str | None = None
    """initial weights: imagenet (the best published for the width), none, a weight file, a catalog name or a run of
    this app; default imagenet, for the sample set and --conv full none"""
    epochs: float | None = None
    """passes over the training photos, unlabelled ones included; default 30, for the sample set as many as fit in a
    minute or two"""
    lr: float | None = None
    """peak learning rate; default 0.02, from random weights 0.2"""
    optimizer: OptimizerName = "sgd"
    """sgd (with Nesterov momentum 0.9), rmsprop or adamw; --lr's default is for sgd, for adamw try 0.003"""
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

import torch
from torch import nn

from apps.common.data.data_record import record_data
from apps.common.device import autocast, make_loader
from apps.common.evaluation.finish import eval_flags, last_words, save_best
from apps.common.pretrained import Pretrained
from apps.common.training.budget import Budget
from apps.common.training.distributed import Processes, start_training
from apps.common.training.optim import Ema, lr_at, make_optimizer, set_lr, take_step
from apps.common.training.progress import Meter, make_progress, read_steps, stop_on_signals
from apps.common.training.replica import Replica
from apps.common.training.resume import AUTO, resumed_config, run_to_resume
from apps.common.training.run_log import RunLog
from apps.common.training.run_state import RunState, bad_loss
from apps.common.training.sampling import StepSampler, run_lengths
from apps.common.training.start import load_start, start_record
from apps.faceattr import eval as eval_script
from apps.faceattr import teacher as teacher_script
from apps.faceattr.data.batches import TrainingSet, collate
from apps.faceattr.data.learning_photos import contents, learning_photos
from apps.faceattr.data.load import load_splits
from apps.faceattr.evaluation.pictures import draw_train_batch
from apps.faceattr.evaluation.while_training import evaluate, measure_teacher
from apps.faceattr.loss.distill_loss import Distillation, DistillLoss, count_known
from apps.faceattr.loss.teacher_outputs import cached_outputs, teacher_outputs
from apps.faceattr.model.create import num_pooled_features, pooled_features
from apps.faceattr.model.pretrained import load_pretrained, start_tagger
from apps.faceattr.model.tagger import APP, Tagger
from apps.faceattr.sample import SAMPLE_RESOLUTION, make_sample

LOG_EVERY = 20  # steps
SAMPLE_EPOCHS = 12.0
LOSSES = tuple("loss" if name == "total" else f"loss_{name}" for name in DistillLoss._fields)
SAMPLE_TEACHER = "a050"


def train(config: Config) -> dict[str, Any]:
    """Run the training that `config` describes; returns the metrics of its best evaluation on val.

    Raises:
        ValueError: a setting or the data is wrong, or the loss is no longer finite.
    """
    config = resumed_config(config, teacher_script.updated_run(run_to_resume(config)))
    check_flags(config)
    processes, device, amp, began = start_training(config)

    # Data
    on_sample = tuple(config.data) == ("sample",)
    config = with_teacher(config, on_sample=on_sample)
    teacher = None if config.teacher == "none" else Tagger.load(Path(str(config.teacher)), device=device)
    with processes.first_goes_first():
        data = [str(make_sample())] if on_sample else list(config.data)
    given = teacher.attributes if teacher else None
    reading: dict[str, Any] = {"bad_data": config.bad_data, "group_by": config.group_by}
    train_split, val_split = load_splits(data, ("train", "val"), attributes=given, open_photos=True, **reading)
    print(train_split.describe(), val_split.describe(), sep="\n")
    folders = [Path(data[0]) / "unlabelled"] if on_sample and teacher else list(config.unlabelled)
    reading |= {"data": data, "withhold": config.withhold, "seed": config.seed, "processes": processes}
    learning = learning_photos(train_split, folders, **reading)
    loading, cached = {"batch_size": config.batch_size, "num_workers": config.num_workers}, None
    if teacher and config.teacher_outputs == "cached":
        folder, (paths, _, shards) = Path(str(config.teacher)), learning
        cached = cached_outputs(teacher, folder, paths, shards, processes=processes, **loading)
    resolution = config.resolution or (SAMPLE_RESOLUTION if on_sample else 128)
    augment = config.augment or ("light" if on_sample else "full")
    dataset = TrainingSet(*learning, resolution=resolution, augment=augment, taught=cached)
    lengths = run_lengths(config, len(dataset), default_epochs=SAMPLE_EPOCHS if on_sample else 30.0)
    record = record_data(config.resume, train_split.attributes, config.teacher, **contents(*learning, val_split))

    # Model
    torch.manual_seed(config.seed)
    weights = config.weights or ("none" if on_sample or config.conv == "full" else "imagenet")
    with processes.first_goes_first():
        start = load_start(config.resume, Pretrained, load_pretrained, config.backbone, weights, conv=config.conv)
    learnt = train_split.attributes, train_split.paths, resolution, device
    tagger, started = start_tagger(config.backbone, start, *learnt, conv=config.conv, qat=config.qat)
    print(f"starting from {started}")
    network = tagger.network
    ema = Ema(network, decay=config.ema_decay)
    tagger = dataclasses.replace(tagger, network=ema.model)
    criterion = make_criterion(config, network, teacher, processes).to(device)
    trainable = nn.ModuleDict({"network": network, "criterion": criterion})

    # Optimiser
    peak = config.lr if config.lr is not None else 0.2 if weights == "none" else 0.002 if config.qat else 0.02
    optimizer = make_optimizer(config.optimizer, trainable, lr=peak, weight_decay=config.weight_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")

    # Resume
    parts: dict[str, Any] = {"learning": trainable, "ema": ema, "optimizer": optimizer, "scaler": scaler}
    state = RunState(parts, metric="mean_ap", patience=config.patience, resume=config.resume)
    facts = {"resolution": resolution, "num_photos": len(dataset), "num_steps": lengths.known_steps, "amp": amp}
    log = state.open_log(config, app=APP, processes=processes, **facts, **record, **start_record(start))
    of_val = measure_teacher(teacher, val_split, log, new=not config.resume, processes=processes, **loading)
    print(
        f"{config.backbone} at {resolution}x{resolution} pixels on {device}, amp {amp}: "
        f"{lengths.describe('photos')}, learning rate {peak:g}; run: {log.folder}"
    )

    # Loop
    sampler = StepSampler.of_run(config, dataset, lengths.num_steps, start_step=state.done, processes=processes)
    loader = make_loader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=config.num_workers)
    budget = Budget(config, lengths, began=began, processes=processes)
    replica = Replica(network, processes, criterion, accumulate=config.accumulate, sync_norm=config.sync_norm)
    meter = Meter(lengths.images_a_step, step=state.done)
    names = LOSSES if teacher else LOSSES[:1]
    with stop_on_signals() as stopping, make_progress(state.done, lengths, shown=processes.is_first) as progress:
        look = partial(draw_train_batch, log, train_split.attributes)
        batches_of_steps = read_steps(loader, accumulate=config.accumulate, meter=meter, look=look)
        if state.owed:
            evaluate(tagger, val_split, log, state, teacher_logits=of_val, processes=processes, **loading)
        for step in budget.steps(state, log, progress):
            lr = lr_at(step, peak=peak, num_steps=lengths.num_steps, warmup_steps=lengths.warmup_steps)
            set_lr(optimizer, lr)
            totals = torch.zeros(len(names), device=device)
            with state.kept(log.folder):
                batches = next(batches_of_steps)
                shares = processes.shares([count_known(targets).to(device) for _, targets, _ in batches])
                for number, ((images, targets, stored), share) in enumerate(zip(batches, shares, strict=True)):
                    images, stored = images.to(device, non_blocking=True), stored.to(device)
                    with autocast(device, amp), pooled_features(network) as pooled:
                        logits = replica(tagger.preprocessing(images), number).float()
                    teacher_logits, features = (stored if teacher else None), None
                    if teacher and cached is None:
                        teacher_logits, theirs = teacher_outputs(teacher, images, amp)
                        features = pooled[0].float(), theirs
                    loss = criterion(logits, targets.to(device), teacher_logits, features=features, label_share=share)
                    losses = torch.stack(loss)[: len(names)]
                    values = processes.mean(losses.detach())
                    if not math.isfinite(values.sum().item()):
                        photos = [dataset.photo(key.item) for key in sampler.batch(step, number)]
                        raise ValueError(bad_loss(names, values, photos))
                    totals += values
                    scaler.scale(losses[0]).backward()
                take_step(optimizer, scaler, replica, clip_norm=config.clip_norm)
            ema.update(network)
            progress.update()
            done = state.done = step + 1
            last = done == lengths.num_steps
            if done % LOG_EVERY == 0 or last:
                logged = dict(zip(names, totals.tolist(), strict=True))
                log.write("train", done, **logged, lr=lr, **meter.read(done))
                progress.set_postfix(loss=f"{logged['loss']:.3f}", refresh=False)
            if done % lengths.eval_every == 0 or last:
                evaluate(tagger, val_split, log, state, teacher_logits=of_val, processes=processes, **loading)
                meter.restart(done)
            if processes.is_first and (done % config.checkpoint_every == 0 or state.why_finished(lengths.num_steps)):
                state.save(log.folder)
            if processes.any(bool(stopping), device):
                break
    if not state.why_finished(lengths.num_steps):
        state.interrupt(log.folder, stopping, processes)
    if processes.is_first:
        finish(config, log, state, lengths.num_steps, photo=val_split.paths[0])
    return state.best["metrics"]


def finish(config: Config, log: RunLog, state: RunState, num_steps: int, *, photo: Path) -> None:
    """Write what a run leaves at its end, and say how it ended."""
    save_best(log, state, panels={"loss": ["loss"], "val": ["mean_ap"]})
    eval_script.evaluate(eval_script.Config(calibrate=True, **eval_flags(config, log.folder)))
    print(last_words(APP, config, log.folder, state, num_steps, photo=photo))


def check_flags(config: Config) -> None:
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


def make_criterion(config: Config, network: nn.Module, teacher: Tagger | None, processes: Processes) -> Distillation:
    """The loss that the flags describe; without a teacher the labels count alone."""
    return Distillation(
        distill_weight=config.distill_weight if teacher else 0.0,
        temperature=config.temperature,
        hint_weight=config.hint_weight,
        features=(num_pooled_features(network), num_pooled_features(teacher.network)) if teacher else None,
        photo_share=1 / config.accumulate if teacher else 1.0,
        processes=processes,
    )


def train_teacher(config: teacher_script.Config) -> dict[str, Any]:
    """What teacher.py runs: `train` without a teacher, with that script's defaults."""
    if run_to_resume(config) is None:
        return train(Config(**teacher_script.student_settings(config)))
    given = {name: value for name, value in vars(config).items() if name != "given" and is_set(config, name)}
    return train(Config(**given))


def with_teacher(config: Config, *, on_sample: bool) -> Config:
    """The settings themselves, or, where no teacher is named, with the one that is trained now.

    Raises:
        ValueError: the data is not the sample set: for your own photos, train a teacher with settings of its own.
    """
    if config.teacher is not None:
        return config
    if not on_sample:
        raise ValueError(
            "--teacher is missing: train one with `python apps/faceattr/teacher.py --data ...` and give its run, or "
            "give --teacher none to learn from labels alone"
        )
    out = config.out / "teacher" if config.out else Path("runs") / APP / f"teacher-{time.strftime('%Y%m%d-%H%M%S')}"
    same = {name: getattr(config, name) for name in ("resolution", "seed", "num_workers", "device")}
    train_teacher(teacher_script.Config(backbone=SAMPLE_TEACHER, out=out, resume=AUTO, **same))
    return dataclasses.replace(config, teacher=str(out))
