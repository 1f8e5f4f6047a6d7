"""Flags that several scripts share, and the sections of --help; without slow imports.

A script's Config inherits the groups it needs and adds its own fields: `Config(backbone="a050", steps=6)`."""

from dataclasses import dataclass
from pathlib import Path

from apps.common.choices import Amp, BadData, Format, Input, Io, On, Precision, Runtime

SECTIONS = {
    "everyday": (
        *(
            "app",
            "sources",
            "source",
            "data",
            "checkpoint",
            "detection",
            "finegrained",
            "faceattr",
            "backbone",
            "backbones",
        ),
        *("resolution", "weights", "split", "epochs", "batch_size", "lr", "out", "resume", "device"),
    ),
    "model": (
        *("conv", "num_classes", "head", "assigner", "loss", "fit_anchors", "freeze_bn", "face_model", "margin"),
    ),
    "teacher": ("teacher", "teacher_outputs", "distill_weight", "temperature", "hint_weight"),
    "data": (
        *("num_photos", "num_train", "num_val", "num_test", "num_unlabelled", "unlabelled", "withhold"),
        *(
            "val_fraction",
            "test_fraction",
            "group_by",
            "bad_data",
            "augment",
            "mixup",
            "cutmix",
            "label_smoothing",
            "balance",
        ),
        *("repeat_threshold", "num_workers"),
    ),
    "schedule": (
        *("steps", "minutes", "head_epochs", "accumulate", "optimizer", "backbone_lr", "layer_decay", "weight_decay"),
        *("sync_norm", "warmup_steps", "ema_decay", "clip_norm", "amp", "qat", "patience", "seed"),
    ),
    "measurement": ("subgroup", "resolutions", "unknown", "calibrate", "compare", "max_drop"),
    "warning": ("min_objects", "min_photos", "min_known", "min_rarer", "max_imbalance", "min_side"),
    "prediction": (
        *("conf", "all_names", "classes", "max_dets", "slice", "slice_overlap", "top", "every"),
        *("show_sensitive", "whole"),
    ),
    "runtime": ("runtime", "threads", "precision", "on", "address", "actors"),
    "output": (
        *("format", "outputs", "score_threshold", "int8", "io", "input", "dynamic_size", "ort"),
        *("save", "save_as", "only_unlabelled", "cam", "fix", "examples", "drop"),
        *("eval_every", "checkpoint_every", "tensorboard"),
    ),
}
"""The names of the fields of all scripts by section, in the order of --help; a script's own are among them."""
PLAIN = ("sources",)  # fields that are positional in the command line


@dataclass(frozen=True, kw_only=True)
class DeviceOption:
    """Flags: where the network runs."""

    device: str = "auto"
    """device of the network: auto, cpu, cuda, cuda:1 or mps"""


@dataclass(frozen=True, kw_only=True)
class GivenFlags:
    """The flags that were given."""

    given: frozenset[str] = frozenset()
    """names of the flags in the command line; not a flag itself, `cli.parse` sets it"""


@dataclass(frozen=True, kw_only=True)
class GroupOption:
    """Flags: what a val split must not divide."""

    group_by: str | None = None
    """groups of photos that stay together where val is split off train: folder, folder:LEVEL below the data,
    name:PATTERN (a regular expression on the file name), or FILE.csv:COLUMN"""


@dataclass(frozen=True, kw_only=True)
class DataOptions(GroupOption):
    """Flags: what is done with wrong data."""

    bad_data: BadData = "refuse"
    """wrong photos and annotations: refuse (stop with a message), or skip them and print how many"""


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(DataOptions):
    """Flags: how photos are read."""

    num_workers: int = 2
    """processes that read photos; 0 reads in the main process"""


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """Flags: the length and the steps of training."""

    steps: int | None = None
    """optimiser steps of the run, instead of --epochs"""
    minutes: float | None = None
    """minutes of the whole run, instead of --epochs; the first steps are timed to find the number that fits"""
    batch_size: int = 32
    """photos per batch"""
    accumulate: int = 1
    """batches per optimiser step; gradients add up to the gradient of one large batch (BatchNorm sees one at a time)"""
    sync_norm: bool = False
    """BatchNorm over the batches of all processes that torchrun started together; without it, each sees its own"""
    warmup_steps: int | None = None
    """steps in which the learning rate rises to its peak, before a cosine lowers it to 0; default a tenth of the run,
    at most 500"""
    ema_decay: float = 0.998
    """decay of the moving average of the weights, which is evaluated and saved; 0 uses the plain weights"""
    clip_norm: float = 5.0
    """largest norm of the gradients, longer ones are scaled down; 0 never clips"""
    amp: Amp = "auto"
    """mixed precision: bf16, fp16, none, or auto: bf16 where the device computes in it natively"""
    qat: bool = False
    """quantisation-aware fine-tuning of a trained model, --weights RUN: it learns with the rounding of --int8 exports,
    by default for 3 epochs and with a tenth of the learning rate"""
    patience: int = 0
    """end the run after so many evaluations in a row without a higher main metric; 0 never ends it early"""
    seed: int = 0
    """random seed of weights, order and augmentation"""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Flags: what a training run writes."""

    out: Path | None = None
    """folder of the run; default runs/APP/BACKBONE-TIME"""
    resume: Path | None = None
    """folder of an interrupted run to continue, with its settings; auto: the run in --out, or a new one if there is
    none, so that a command that is started again goes on by itself"""
    eval_every: int | None = None
    """steps between evaluations; default a fifth of the run, at most 5,000; the last step is always evaluated"""
    checkpoint_every: int = 500
    """steps between the training states that --resume reads"""
    tensorboard: bool = False
    """also write the numbers of metrics.jsonl for TensorBoard (tensorboard --logdir RUN); needs that package"""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(DeviceOption, ReadingOptions, ScheduleOptions, RunOptions, GivenFlags):
    """Flags of every train.py."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions(DeviceOption):
    """Flags of every predict.py."""

    sources: tuple[str, ...] = ()
    """photos, videos, folders, quoted patterns, a camera's number (0, 1, ...), or - for a list on standard input"""
    source: str | None = None
    """a further source, given as a flag"""
    only_unlabelled: bool = False
    """leave out photos that have labels: the source is the folder of a data set"""
    every: int = 1
    """use every n-th frame of a video or camera; 1 uses all"""
    runtime: Runtime = "auto"
    """library that runs the network: torch, torch-compile (slow to start), onnx or openvino (both on CPUs), or auto:
    the fastest installed"""
    threads: int | None = None
    """threads on a CPU; default as many as torch uses"""
    precision: Precision = "float32"
    """arithmetic: float32 (exact), or auto: bfloat16 where processor and runtime (OpenVINO) support it, see
    docs/export.md"""
    on: On = "here"
    """here (in this process), or ray: processes of Ray on this machine or a cluster write a Parquet table, and sources
    may also be tar shards, lists (.txt) and addresses (s3://...); see docs/cluster.md"""
    address: str | None = None
    """address of the Ray cluster for --on ray; default starts Ray on this machine"""
    actors: int | None = None
    """processes with a network each for --on ray; default one per GPU, or per --threads cores (1 by default there)"""

    @property
    def all_sources(self) -> tuple[str, ...]:
        """With and without the flag."""
        return self.sources if self.source is None else (*self.sources, self.source)


@dataclass(frozen=True, kw_only=True)
class ExportOptions(DataOptions):
    """Flags of every export.py."""

    format: Format = "onnx"
    """onnx (one file), openvino (a folder with model.xml and model.bin), tflite or executorch (one file for phones and
    small boards), ncnn (a folder for them) or web (a folder with a page that runs the model in the browser); see
    docs/formats.md"""
    int8: bool = False
    """8-bit weights and activations, with scales from photos of the train split"""
    io: Io = "float"
    """ends of a TFLite file with --int8: float (uint8 pixels in, floats out) or int8 (both, for NPUs)"""
    input: Input = "uint8"
    """input of the file: uint8 (pixels, normalised inside) or float ((B, 3, H, W), normalised outside)"""
    ort: Path | None = None
    """web: folder of the unpacked npm package onnxruntime-web, copied beside; default the page fetches it from a CDN"""
    num_photos: int = 200
    """largest number of photos of each split to check with and to calibrate on"""


@dataclass(frozen=True, kw_only=True)
class CheckOptions(DeviceOption, GroupOption, GivenFlags):
    """Flags of every check.py."""

    checkpoint: Path | None = None
    """run of train.py, its best/ folder, or last: labels that this model disagrees with are listed in suspects.html and
    suspects.json; default none"""
    examples: int = 5
    """cases printed for each finding; check.json has all"""
    min_side: int = 64
    """smallest shorter side of a photo, in pixels, without a warning"""
    seed: int = 0
    """random seed of the splits that are made where the data has none"""
    num_workers: int | None = None
    """threads that read photos; default one per core"""
