"""One training run of the paper's study: a setting, and its loop, made of the classifier's own parts.

Letters in shapes: B batch, H W height and width, K classes.
"""

import contextlib
import dataclasses
import functools
import io
import math
import time
from pathlib import Path
from typing import Any, Literal

import cv2
import torch
from torch import Tensor, nn

from apps.common.choices import OptimizerName
from apps.common.device import make_loader, prepare_training
from apps.common.images import Normalisation, read_image, resize
from apps.common.training.optim import Ema, lr_at, make_optimizer, set_lr, take_step
from apps.common.training.replica import Replica
from apps.common.training.sampling import StepSampler
from apps.finegrained.choices import Augment
from apps.finegrained.data.batches import TrainingSet, collate
from apps.finegrained.data.load import LabelledSplit, load_splits
from apps.finegrained.loss.distill_loss import Distillation
from apps.finegrained.model.classifier import Classifier
from apps.finegrained.model.inference import predict_photos
from apps.finegrained.train import Config as TrainFlags
from backbone import MobileNetV1, create_backbone
from backbone.blocks import Norm
from backbone.cost import network_cost
from backbone.files import written_whole
from backbone.mobilenet_v1 import Conv

Decay = Literal["spared", "everywhere"]  # weight decay of the depthwise filters: none, or that of all convolutions
PAPER_SIDE = 224
PHOTOS = "photos"  # folder of a study
SHRUNK = 1.5  # short side of the photos that runs read, over the side of the largest input


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What one network is and how it is trained; the defaults are the paper's.

    Attributes:
        paper_side: of the paper's input that this one stands for; the study's side for 224 scales it.
        augment: None for the study's.
        weight_decay: of the convolutions and the classifier.
        taught: by the network of the setting `TEACHER` and the same seed, whose probabilities are half of the loss.
    """

    backbone: str = "a100"
    paper_side: int = PAPER_SIDE
    conv: Conv = "separable"
    shallow: bool = False
    residual: bool = False
    norm: Norm = "batch"
    decay: Decay = "spared"
    weight_decay: float = TrainFlags.weight_decay
    augment: Augment | None = None
    taught: bool = False

    @property
    def name(self) -> str:
        """Of its files: width, the paper's side, and what is not the default."""
        others = [f for f in dataclasses.fields(self) if f.name not in ("backbone", "paper_side")]
        changed = {field.name: getattr(self, field.name) for field in others}
        words = [
            f"{name}-{value}" for (name, value), f in zip(changed.items(), others, strict=True) if value != f.default
        ]
        return "_".join([self.backbone, str(self.paper_side), *words])

    @property
    def variant(self) -> dict[str, Any]:
        """Options of `create_backbone`."""
        return {"conv": self.conv, "shallow": self.shallow, "residual": self.residual, "norm": self.norm}


TEACHER = Setting()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """What all runs of a study have in common.

    Attributes:
        side: of the input, in pixels, that stands for the paper's 224.
        split: whose photos are the measure; no other choice is made on them than the study's settings.
    """

    data: str
    side: int
    steps: int
    batch_size: int
    optimizer: OptimizerName
    lr: float
    augment: Augment
    split: str

    def resolution(self, setting: Setting) -> int:
        """Pixels of the square input."""
        return round(self.side * setting.paper_side / PAPER_SIDE)

    def shrink_photos(self, folder: Path) -> None:
        """Write the photos as all runs read them: no larger than needed, which saves most of the time to decode them.

        What is measured on becomes val, whatever it was: where data has none, a part of train would be taken for it.

        Raises:
            ValueError: see `load_splits`; or there is one class alone.
        """
        splits = load_splits(self.data, ("train", self.split))
        if len(splits[0].class_names) < 2:
            raise ValueError(f"{self.data} has the class {splits[0].class_names[0]!r} alone: top-1 needs two or more")
        with written_whole(folder, folder=True, flush=False) as room:
            for name, split in zip(("train", "val"), splits, strict=True):
                for number, photo in enumerate(split.photos):
                    path = room / name / f"{photo.label:04d}" / f"{number:06d}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    image = read_image(photo.path)
                    height, width = image.shape[:2]
                    scale = min(1.0, SHRUNK * self.side / min(height, width))
                    small = resize(image, max(1, round(scale * width)), max(1, round(scale * height)))
                    cv2.imwrite(str(path), small[..., ::-1])

    def training_set(self, setting: Setting, split: LabelledSplit) -> TrainingSet:
        """The augmented photos of a setting."""
        how: Any = {"crop": Classifier.crop, "augment": setting.augment or self.augment}
        return TrainingSet(split.photos, resolution=self.resolution(setting), **how)


@functools.cache
def read_splits(photos: Path) -> tuple[LabelledSplit, LabelledSplit]:
    """The photos of `shrink_photos` to train on, and those to measure with; nothing is printed."""
    with contextlib.redirect_stdout(io.StringIO()):
        train_split, measured = load_splits(photos, ("train", "val"))
    return train_split, measured


def make_network(setting: Setting, num_classes: int) -> MobileNetV1:
    """The network of a setting, with random weights."""
    network = create_backbone(setting.backbone, num_classes=num_classes, **setting.variant)
    return network.to(memory_format=torch.channels_last)


def optimizer_of(setting: Setting, network: nn.Module, study: Study) -> torch.optim.Optimizer:
    """The study's; with `decay` "everywhere" depthwise filters have weight decay, too."""
    optimizer = make_optimizer(study.optimizer, network, lr=study.lr, weight_decay=setting.weight_decay)
    if setting.decay == "everywhere":
        for group in [group for group in optimizer.param_groups if not group["weight_decay"]]:
            filters = [parameter for parameter in group["params"] if parameter.ndim == 4]
            group["params"] = [parameter for parameter in group["params"] if parameter.ndim < 4]
            optimizer.add_param_group({**group, "params": filters, "weight_decay": setting.weight_decay})
    return optimizer


class Step:
    """One optimiser step on a batch: forward, loss, backward, update, moving average."""

    def __init__(self, setting: Setting, study: Study, network: MobileNetV1, teacher: Classifier | None = None) -> None:
        self.network, self.study, self.teacher = network.train(), study, teacher
        self.optimizer = optimizer_of(setting, network, study)
        self.ema = Ema(network, decay=TrainFlags.ema_decay)
        self.criterion = Distillation(
            distill_weight=TrainFlags.distill_weight,
            temperature=TrainFlags.temperature,
            label_smoothing=TrainFlags.label_smoothing,
        )
        self.scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.normalise = Normalisation()

    def __call__(self, images: Tensor, labels: Tensor, number: int) -> float:
        """The loss of images (B, 3, H, W) uint8 and labels (B,); `number` counts the steps from 0."""
        steps = self.study.steps
        set_lr(self.optimizer, lr_at(number, peak=self.study.lr, num_steps=steps, warmup_steps=min(500, steps // 10)))
        logits = self.network(self.normalise(images))
        theirs = self.teacher.logits(images).clone() if self.teacher else None
        loss = self.criterion(logits, nn.functional.one_hot(labels, logits.shape[1]).float(), theirs).total
        loss.backward()
        take_step(self.optimizer, self.scaler, Replica(self.network), clip_norm=TrainFlags.clip_norm)
        self.ema.update(self.network)
        return loss.item()


def train_one(setting: Setting, seed: int, study: Study, *, threads: int, out: Path) -> dict[str, Any]:
    """Train a network from random weights and measure its moving average once, after the last step.

    Args:
        out: of the study, with its photos; networks of the setting `TEACHER` are kept there for others.

    Raises:
        ValueError: the data is wrong, or the loss is no longer finite.
    """
    start = time.process_time()
    prepare_training()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    train_split, measured = read_splits(out / PHOTOS)
    names, side = train_split.class_names, study.resolution(setting)
    dataset = study.training_set(setting, train_split)
    folder = out / "teachers" / f"{TEACHER.name}-seed-{seed}"
    teacher = Classifier.load(folder, device=torch.device("cpu")) if setting.taught else None
    step = Step(setting, study, make_network(setting, len(names)), teacher)
    sampler = StepSampler(len(dataset), batch_size=study.batch_size, num_steps=study.steps, seed=seed)
    losses = []
    loader = make_loader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=0)
    for number, (images, labels) in enumerate(loader):
        losses.append(step(images, labels, number))
        if not math.isfinite(losses[-1]):
            raise ValueError(f"{setting.name}, seed {seed}: the loss is not finite at step {number}: use a lower --lr")
    classifier = Classifier(network=step.ema.model, backbone=setting.backbone, resolution=side, class_names=names)
    how: Any = {"name": study.split, "batch_size": 100, "num_workers": 0, "progress": False}
    logits = predict_photos(classifier, measured.photos, **how)
    found = top_k(logits, torch.tensor([photo.label for photo in measured.photos]))
    if setting == TEACHER:
        classifier.save(folder, metrics=found)
    cost, last = network_cost(step.network, side), losses[-max(1, len(losses) // 10) :]
    return {
        **{"setting": dataclasses.asdict(setting), "seed": seed, "resolution": side, "num_classes": len(names)},
        "num_photos": {"train": len(dataset), study.split: len(logits)},
        **{**found, "loss": sum(last) / len(last), "mult_adds": cost.mult_adds, "params": cost.params},
        "cpu_seconds": round(time.process_time() - start, 1),
    }


def top_k(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Shares, 0 to 1, of logits (N, K) whose largest, and five largest, have the label (N,) among them."""
    best = logits.topk(min(5, logits.shape[1]), 1).indices == labels[:, None]
    return {"top1": best[:, 0].float().mean().item(), "top5": best.any(1).float().mean().item()}


def seconds_a_step(setting: Setting, study: Study, *, threads: int, out: Path) -> float:
    """Of reading a batch and training on it, the second of two: what the estimate is made of."""
    prepare_training()
    torch.set_num_threads(threads)
    train_split, _ = read_splits(out / PHOTOS)
    dataset = study.training_set(setting, train_split)
    step = Step(setting, study, make_network(setting, len(train_split.class_names)))
    sampler = StepSampler(len(dataset), batch_size=study.batch_size, num_steps=2, seed=0)
    for number, keys in enumerate(sampler):
        start = time.perf_counter()
        step(*collate([dataset[key] for key in keys]), number)
    return time.perf_counter() - start
