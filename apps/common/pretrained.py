"""The weights that a classifying network starts from: published weights, a model of the same app, or nothing.

    import dataclasses
    from backbone import create_backbone

    start = load_pretrained("imagenet", width_mult=0.75, app="finegrained")
    network = create_backbone(0.75, num_classes=2, **dataclasses.asdict(start.style))
    print(start.put_into(network, ["pomelo", "grapefruit"]))

Letters in shapes: O outputs of a layer, I its inputs, K classes.
"""

import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from apps.common.checkpoint import load_model
from apps.common.choices import QAT_NEEDS
from apps.common.data.problems import did_you_mean
from apps.common.images import Normalisation
from backbone.blocks import ConvNorm
from backbone.eight_bits import learn_eight_bits
from backbone.mobilenet_v1 import ConvStyle
from backbone.names import backbone_name
from backbone.weights import LoadedWeights, imagenet_entries, load_weights
from backbone.weights.catalog import find_entry
from backbone.weights.fetch import fetch, is_fetched

PATIENCE, LONGEST = 3.0, 30.0  # seconds that `is_ready` waits for a server's answer, and then for its file
TENSORFLOW_STYLE = ConvStyle(padding="same", activation="relu6", norm="batch", norm_eps=1e-3)


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights of a `MobileNetV1` with or without its classifier, or none, and the style of network that fits them.

    Attributes:
        summary: a description with the source.
        style: padding, activation and norm that they were trained with.
        preprocessing: of the pixels they were trained on.
        state: some or all of `MobileNetV1.state_dict()`; "classifier.*" only with `class_names`.
        class_names: of the classifier's rows.
        folded: BatchNorm was folded into the convolutions: `backbone.weights.unfold_norms` must come before training.
        in_state: the weights are in the state of a resumed run, not here.
    """

    summary: str
    style: ConvStyle = TENSORFLOW_STYLE
    preprocessing: Normalisation = field(default_factory=Normalisation)
    state: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    class_names: Sequence[str] = ()
    folded: bool = False
    in_state: bool = False

    @property
    def is_trained(self) -> bool:
        """Whether any weights are not random."""
        return bool(self.state) or self.in_state

    def put_into(self, network: nn.Module, class_names: Sequence[str]) -> str:
        """Load these weights into a network built with `style`; classifier rows only for classes of the same name.

        Returns:
            A sentence about what was loaded.

        Raises:
            ValueError: the weights belong to another network; the message names the first layer that differs.
        """
        mine = network.state_dict()
        known = {name: row for row, name in enumerate(self.class_names)}
        shared = [(i, known[name]) for i, name in enumerate(class_names) if name in known]
        for name, value in self.state.items():
            if name.startswith("classifier."):
                for row, theirs in shared:
                    mine[name][row] = value[theirs]
            elif name not in mine or mine[name].shape != value.shape:
                here = tuple(mine[name].shape) if name in mine else "no such layer"
                raise ValueError(f"{self.summary}: {name} has shape {tuple(value.shape)}, this network has {here}")
            else:
                mine[name] = value
        network.load_state_dict(mine)
        if not self.state:
            return "the weights are those of the run" if self.in_state else "all weights are new"
        return f"the backbone is taken, {len(shared)} of {len(class_names)} classifier rows are taken by name"


def load_pretrained(weights: str | Path, *, width_mult: float, app: str) -> Pretrained:
    """Find, download if needed, and read the weights given by `--weights`.

    Args:
        weights: "none", "imagenet" (the best published for the width), a catalog name
            (`python -m backbone.weights list`), a weight file, or a run or model folder of the app.
        width_mult: the required width.
        app: the app whose model folders are allowed.

    Raises:
        ValueError: no weights of that name or width, a failed download, a damaged file. Always one line.
    """
    if str(weights) == "none":
        return Pretrained(summary="random weights")
    if Path(weights).is_dir():
        about, state = load_model_of(Path(weights), app=app, width_mult=width_mult)
        return Pretrained(
            summary=f"{about['backbone']} from {weights}",
            style=ConvStyle(**about["style"]),
            preprocessing=Normalisation.from_dict(about["preprocessing"]),
            state=state,
            class_names=about["class_names"],
        )
    loaded, _ = find_weights(weights, width_mult=width_mult, words={"imagenet": imagenet_name})
    return Pretrained(
        summary=loaded.summary(),
        style=style_of(loaded),
        preprocessing=preprocessing_of(loaded),
        state={name: value for name, value in loaded.state_dict.items() if not name.startswith("classifier.")},
        folded=loaded.folded,
    )


def learn_rounding(network: nn.Module, class_names: Sequence[str], *, sums: Iterable[nn.Module] = ()) -> None:
    """--qat: let a network learn with the rounding of 8 bits, see `backbone.eight_bits.learn_eight_bits`.

    Args:
        class_names: of what it starts from; none if that is not a whole model.

    Raises:
        ValueError: it is not, or the network is no MobileNet V1.
    """
    if not any(isinstance(module, ConvNorm) for module in network.modules()):
        raise ValueError("--qat is for widths of MobileNet V1 (a025, ...), not for classifiers of torchvision")
    if not class_names:
        raise ValueError(QAT_NEEDS)
    learn_eight_bits(network, sums=sums)


def find_weights(
    weights: str | Path, *, width_mult: float, words: Mapping[str, Callable[[float], str]]
) -> tuple[LoadedWeights, str | Path]:
    """Read the file or catalog entry given by `--weights`, of the required width.

    If "imagenet" cannot be downloaded, the best ImageNet weights of the width on this machine are used, with a message.

    Args:
        words: the keywords that an app allows besides "none", each with a function from a width to a catalog name.

    Returns:
        The weights, and their path or catalog name.

    Raises:
        ValueError: see `load_weights`; with suggestions.
    """
    asked = str(weights)
    source = words[asked](width_mult) if asked in words else weights
    try:
        return load_weights(source, width_mult=width_mult), source
    except ValueError as error:
        hint = ""
        if asked == "imagenet":
            hint = "; `--weights none` starts from random weights"
            here = [entry for entry in imagenet_entries(width_mult) if is_fetched(entry) and entry.name != source]
            if here and isinstance(error.__cause__, (OSError, HTTPException)):
                print(f"{error}; meanwhile {here[0].name} is taken, which is on this machine")
                return load_weights(here[0].name, width_mult=width_mult), here[0].name
        if asked not in words:
            hint = did_you_mean(asked, (*words, "none")) or hint
        raise ValueError(f"{error}{hint}") from error


def is_ready(names: Sequence[str]) -> bool:
    """Whether a file of one of these catalog entries is on this machine, after a download if there is a network.

    Host names are resolved and files are downloaded in a thread, which is awaited for `PATIENCE`, or `LONGEST` once a
    server has answered; after that it continues in the background, and the file is there the next time.
    """
    entries = [find_entry(name) for name in names]
    if any(map(is_fetched, entries)):
        return True
    answers, done, problems = threading.Event(), threading.Event(), []

    def work() -> None:
        for entry in entries:
            try:
                urllib.request.urlopen(urllib.request.Request(entry.url, method="HEAD"), timeout=PATIENCE).close()
                answers.set()
                fetch(entry)
                return done.set()
            except Exception as error:  # whatever a network does, there is no file
                problems.append(str(error).partition("\n")[0])

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if answers.is_set():
        thread.join(LONGEST)
    if entries and not done.is_set():
        problem = problems[0] if problems else "it is still coming" if answers.is_set() else "no answer"
        print(f"{names[0]} is not on this machine, and is not downloaded now: {problem}", file=sys.stderr)
    return done.is_set()


def imagenet_name(width_mult: float) -> str:
    """The catalog name of the best published ImageNet weights of a width."""
    return imagenet_entries(width_mult)[0].name


def load_model_of(folder: Path, *, app: str, width_mult: float) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """`checkpoint.load_model` for a folder whose network must have this width."""
    about, state = load_model(folder, app=app)
    if about["backbone"] != (asked := backbone_name(width_mult)):
        raise ValueError(f"weights {folder} are of width {about['backbone']}, {asked} was asked for")
    return about, state


def style_of(loaded: LoadedWeights) -> ConvStyle:
    """The style in which a network must be built to fit the weights."""
    return ConvStyle(padding=loaded.padding, activation=loaded.activation, norm="batch", norm_eps=loaded.norm_eps)


def preprocessing_of(loaded: LoadedWeights) -> Normalisation:
    """Normalisation of pixels 0 to 255, from that of the backbone's files for pixels 0 to 1."""
    (r, g, b), (r_std, g_std, b_std) = loaded.preprocessing.mean, loaded.preprocessing.std
    return Normalisation(mean=(255 * r, 255 * g, 255 * b), std=(255 * r_std, 255 * g_std, 255 * b_std))
