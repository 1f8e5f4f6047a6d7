"""Weight files for the tests, written in each format's own terms, and what they must compute.

Kernels and statistics are random, so that no two layers are alike and every mistake of order or axis shows.
"""

import io

import numpy as np
import torch
from torch import nn

BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


def shuffle_norms(model: nn.Module, seed: int) -> nn.Module:
    """Give every BatchNorm statistics and scales of its own; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight.data, 0.7, 1.3),
                (module.bias.data, -0.3, 0.6),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
            ):
                tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))
    return model.eval()


def keras_layers(alpha: float, *, num_classes: int, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Layer name -> variable name -> array, in the shapes of keras.applications' MobileNet; no conv_preds for 0."""
    rng = np.random.default_rng(seed)

    def kernel(*shape: int, fan_in: int) -> np.ndarray:
        return (rng.normal(0, (2 / fan_in) ** 0.5, shape)).astype(np.float32)

    def norm(channels: int) -> dict[str, np.ndarray]:
        ranges = {"gamma": (0.7, 1.3), "beta": (-0.3, 0.6), "moving_mean": (-0.2, 0.2), "moving_variance": (0.5, 1.5)}
        return {name: rng.uniform(*ends, channels).astype(np.float32) for name, ends in ranges.items()}

    c = int(32 * alpha)
    layers = {"conv1": {"kernel": kernel(3, 3, 3, c, fan_in=27)}, "conv1_bn": norm(c)}
    for i, (out, _) in enumerate(BLOCKS, 1):
        before, c = c, int(out * alpha)
        layers[f"conv_dw_{i}"] = {"depthwise_kernel": kernel(3, 3, before, 1, fan_in=9)}
        layers[f"conv_dw_{i}_bn"] = norm(before)
        layers[f"conv_pw_{i}"] = {"kernel": kernel(1, 1, before, c, fan_in=before)}
        layers[f"conv_pw_{i}_bn"] = norm(c)
    if num_classes:
        layers["conv_preds"] = {
            "kernel": kernel(1, 1, c, num_classes, fan_in=c),
            "bias": rng.normal(0, 0.1, num_classes).astype(np.float32),
        }
    return layers


def keras_logits(layers: dict[str, dict[str, np.ndarray]], x: np.ndarray) -> np.ndarray:
    """What Keras computes, in numpy: x (N, H, W, 3) of an even side -> logits (N, K). ReLU6, eps 1e-3, SAME."""

    def activated(x: np.ndarray, norm: dict[str, np.ndarray]) -> np.ndarray:
        x = (x - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 1e-3) * norm["gamma"] + norm["beta"]
        return np.clip(x, 0, 6)

    def windows(x: np.ndarray, stride: int) -> np.ndarray:  # -> (N, H', W', C, 3, 3)
        low = 1 if stride == 1 else 0
        x = np.pad(x, ((0, 0), (low, 1), (low, 1), (0, 0)))
        return np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::stride, ::stride]

    x = activated(np.einsum("nhwcij,ijco->nhwo", windows(x, 2), layers["conv1"]["kernel"]), layers["conv1_bn"])
    for i, (_, stride) in enumerate(BLOCKS, 1):
        depthwise = layers[f"conv_dw_{i}"]["depthwise_kernel"][..., 0]
        x = activated(np.einsum("nhwcij,ijc->nhwc", windows(x, stride), depthwise), layers[f"conv_dw_{i}_bn"])
        x = activated(x @ layers[f"conv_pw_{i}"]["kernel"][0, 0], layers[f"conv_pw_{i}_bn"])
    return x.mean((1, 2)) @ layers["conv_preds"]["kernel"][0, 0] + layers["conv_preds"]["bias"]


def write_keras_old(layers: dict[str, dict[str, np.ndarray]], *, group: str = "") -> bytes:
    """The layout of one group per layer, as `save_weights("x.h5")` of Keras 2 writes it; `group`: "model_weights/"."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for layer, variables in layers.items():
            for variable, array in variables.items():
                file[f"{group}{layer}/{layer}/{variable}:0"] = array
        if group:
            file[f"optimizer_weights/{next(iter(layers))}/kernel:0"] = np.zeros(3)
    return buffer.getvalue()


def write_keras_new(layers: dict[str, dict[str, np.ndarray]], *, prefix: str = "", names: bool = True) -> bytes:
    """The layout of Keras 3's `save_weights("x.weights.h5")`; `names`: with each layer's name, as newer versions do."""
    import h5py

    buffer = io.BytesIO()
    numbers: dict[str, int] = {}
    with h5py.File(buffer, "w") as file:
        for layer, variables in layers.items():
            kind = "batch_normalization" if layer.endswith("_bn") else "conv2d"
            kind = "depthwise_conv2d" if "depthwise_kernel" in variables else kind
            number = numbers.get(kind, 0)
            numbers[kind] = number + 1
            group = file.create_group(f"{prefix}layers/{kind}{f'_{number}' if number else ''}/vars")
            if names:
                group.attrs["name"] = layer
            for i, array in enumerate(variables.values()):
                group[str(i)] = array
    return buffer.getvalue()


def timm_state_dict(*, num_classes: int, seed: int) -> dict[str, torch.Tensor]:
    """Random tensors under timm's names for a net of width 0.1 with at least 8 channels."""
    generator = torch.Generator().manual_seed(seed)
    widths = [max(8, int(out * 0.1)) for out, _ in BLOCKS]
    state_dict = {"conv_stem.weight": torch.randn(8, 3, 3, 3, generator=generator)}

    def norm(name: str, c: int) -> None:
        for variable in ("weight", "bias", "running_mean", "running_var"):
            state_dict[f"{name}.{variable}"] = 0.5 + torch.rand(c, generator=generator)

    norm("bn1", 8)
    c, stage, unit = 8, 0, 0
    for i, (_, stride) in enumerate(BLOCKS):
        if stride == 2:
            stage, unit = stage + 1, 0
        elif i > 0:
            unit += 1
        name = f"blocks.{stage}.{unit}"
        state_dict[f"{name}.conv_dw.weight"] = torch.randn(c, 1, 3, 3, generator=generator)
        norm(f"{name}.bn1", c)
        state_dict[f"{name}.conv_pw.weight"] = torch.randn(widths[i], c, 1, 1, generator=generator) / c**0.5
        norm(f"{name}.bn2", widths[i])
        c = widths[i]
    state_dict["classifier.weight"] = torch.randn(num_classes, c, generator=generator)
    state_dict["classifier.bias"] = torch.randn(num_classes, generator=generator)
    return state_dict
