"""Published ImageNet weights in our network against the runtimes they were made for, photo by photo.

    pip install ai-edge-litert                   # for .tflite
    pip install tensorflow-cpu tf-keras          # for .h5
    python benchmarks/imagenet_weights.py --photos ../shared/data/imagenet_sample ../shared/weights/*.h5 \
        ../shared/weights/mobilenet_v1_*.tflite

The photos must sort by class, the i-th being of class 10 * i + 3, or lie in one folder per class. A runtime that is
not installed is left out. For a Keras file it also prints what the three classic mistakes of a conversion cost, and
other resolutions. Takes two minutes on two cores for 100 photos.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from backbone.mobilenet_v1 import MobileNetV1, create_backbone
from backbone.weights import LoadedWeights, create_backbone_from, load_weights

BATCH = 25
MISTAKES: dict[str, dict[str, object]] = {
    "symmetric padding": {"padding": "symmetric"},
    "BatchNorm eps 1e-5": {"norm_eps": 1e-5},
    "ReLU for ReLU6": {"activation": "relu"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Our network against the original runtimes on ImageNet photos.")
    parser.add_argument("files", nargs="+", type=Path, help="weight files with an ImageNet classifier")
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEGs that sort by class")
    options = parser.parse_args()
    paths = sorted(options.photos.glob("*.JPEG"))
    labels = np.arange(len(paths)) * 10 + 3
    print(f"{len(paths)} photos of {options.photos}\n")
    for file in options.files:
        weights = load_weights(file)
        resolution = weights.resolution or 224
        images = np.stack([load_photo(path, resolution=resolution) for path in paths])
        ours = our_logits(create_backbone_from(weights), weights, images)
        line = f"{file.name} at {resolution}: ours {percent(ours, labels)}"
        runtime, theirs = run_original(file, images)
        if theirs is None:
            print(f"{line}; {runtime} is not installed")
        else:
            same = int((ours.argmax(1) == theirs.argmax(1)).sum())
            correlation = np.mean([rank_correlation(a, b) for a, b in zip(ours, theirs, strict=True)])
            worst = float(np.abs(softmax(ours) - softmax(theirs)).max())
            print(
                f"{line}, {runtime} {percent(theirs, labels)}; same class on {same} photos, rank correlation of the "
                f"logits {correlation:.4f}, probabilities differ by at most {worst:.1e}"
            )
        if weights.layout.startswith("Keras"):
            print_mistakes(weights, images, labels)
            print_resolutions(weights, paths, labels)


def load_photo(path: Path, *, resolution: int) -> np.ndarray:
    """A photo as the classifiers see it: short side to resolution / 0.875, centre crop. uint8 (H, W, 3), RGB."""
    image = Image.open(path).convert("RGB")
    short = round(resolution / 0.875)
    scale = short / min(image.size)
    if scale != 1:
        image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    left, top = (image.width - resolution) // 2, (image.height - resolution) // 2
    return np.asarray(image.crop((left, top, left + resolution, top + resolution)))


def our_logits(model: MobileNetV1, weights: LoadedWeights, images: np.ndarray) -> np.ndarray:
    """Logits (N, 1000) of uint8 images (N, H, W, 3)."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(weights.preprocessing.normalise(batch)) for batch in pixels.split(BATCH)]).numpy()


def run_original(file: Path, images: np.ndarray) -> tuple[str, np.ndarray | None]:
    """Name of the runtime a file was made for, and its logits (N, 1000) up to a constant; None if not installed."""
    if file.suffix == ".tflite":
        return "LiteRT", run_tflite(file, images)
    return "tf-keras", run_keras(file, images)


def run_tflite(file: Path, images: np.ndarray) -> np.ndarray | None:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return None
    interpreter = Interpreter(str(file), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    softmax_inputs = [op["inputs"] for op in interpreter._get_ops_details() if op["op_name"] == "SOFTMAX"]
    logits_index = int(softmax_inputs[0][0])
    scale, zero_point = next(
        detail["quantization"] for detail in interpreter.get_tensor_details() if detail["index"] == logits_index
    )
    rows = []
    for image in images:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        rows.append((interpreter.get_tensor(logits_index).astype(np.float32).ravel() - zero_point) * scale)
    return np.stack(rows)[:, 1:]  # without background


def run_keras(file: Path, images: np.ndarray) -> np.ndarray | None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tf_keras
    except ImportError:
        return None
    model = tf_keras.applications.MobileNet(weights=None)
    model.load_weights(str(file))
    return np.log(model.predict(images / 127.5 - 1, batch_size=BATCH, verbose=0) + 1e-30)


def print_mistakes(weights: LoadedWeights, images: np.ndarray, labels: np.ndarray) -> None:
    for mistake, change in MISTAKES.items():
        right = {"padding": weights.padding, "norm_eps": weights.norm_eps, "activation": weights.activation}
        model = create_backbone(weights.backbone, **{**right, **change})  # type: ignore[arg-type]
        model.load_state_dict(weights.state_dict)
        print(f"    with {mistake}: {percent(our_logits(model, weights, images), labels)}")


def print_resolutions(weights: LoadedWeights, paths: list[Path], labels: np.ndarray) -> None:
    for resolution in (192, 160, 128):
        images = np.stack([load_photo(path, resolution=resolution) for path in paths])
        logits = our_logits(create_backbone_from(weights), weights, images)
        print(f"    at {resolution}: {percent(logits, labels)}")


def percent(logits: np.ndarray, labels: np.ndarray) -> str:
    return f"{100 * (logits.argmax(1) == labels).mean():.1f} %"


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's; ties are broken by position."""
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


if __name__ == "__main__":
    main()
