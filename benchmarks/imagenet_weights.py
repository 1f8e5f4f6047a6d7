"""Compare published ImageNet weights in our network with their original runtimes, photo by photo.

    pip install ai-edge-litert                   # for .tflite
    pip install tensorflow-cpu tf-keras          # for .h5
    python benchmarks/imagenet_weights.py --photos ../shared/data/imagenet_sample ../shared/weights/*.h5 \
        ../shared/weights/mobilenet_v1_*.tflite

The photos must sort by class; the i-th is of class 10 * i + 3. A runtime that is not installed is skipped. For a Keras
file the script also prints the cost of the three classic mistakes of a conversion, and other resolutions. It takes 40
seconds on two cores for 100 photos. With tf-keras 2.21 and LiteRT 2.3 it printed:

    mobilenet_1_0_224_tf.h5 at 224: ours 93.0 %, tf-keras 93.0 %; the same class on every photo, probabilities differ by
    at most 4.1e-06; with symmetric padding 88.0 %, BatchNorm eps 1e-5 93.0 %, ReLU 65.0 %; at 192 / 160 / 128 pixels
    92.0 / 84.0 / 67.0 %
    mobilenet_v1_0.25_128_quant.tflite: ours 49.0 %, LiteRT 50.0 %; rank correlation of the logits 0.9985
    mobilenet_v1_0.75_192_quant.tflite: ours 76.0 %, LiteRT 76.0 %; rank correlation of the logits 0.9989

Top-1 of the quantised files varies by a few photos: their 8-bit logits tie for the first place on 3 to 9 of the 100
photos, and the class with the lower number then counts. Other ways of resizing the same photos change the figures by up
to 3 points in either direction.
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
            differ = ours.argmax(1) != theirs.argmax(1)
            tied = (theirs == theirs.max(1, keepdims=True)).sum(1) > 1
            correlation = np.mean([rank_correlation(a, b) for a, b in zip(ours, theirs, strict=True)])
            worst = float(np.abs(softmax(ours) - softmax(theirs)).max())
            print(
                f"{line}, {runtime} {percent(theirs, labels)}; another class on {differ.sum()} photos, on "
                f"{(differ & tied).sum()} of them where the runtime's logits tie for the first place; rank correlation "
                f"of the logits {correlation:.4f}, probabilities differ by at most {worst:.1e}"
            )
        if weights.layout.startswith("Keras"):
            print_mistakes(weights, images, labels)
            print_resolutions(weights, paths, labels)


def load_photo(path: Path, *, resolution: int) -> np.ndarray:
    """Resize the centre square of 7/8 of the short side bilinearly: uint8 (resolution, resolution, 3), RGB."""
    image = Image.open(path).convert("RGB")
    side = round(0.875 * min(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    crop = image.crop((left, top, left + side, top + side))
    return np.asarray(crop.resize((resolution, resolution), Image.Resampling.BILINEAR))


def our_logits(model: MobileNetV1, weights: LoadedWeights, images: np.ndarray) -> np.ndarray:
    """Compute logits (N, 1000) of uint8 images (N, H, W, 3)."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(weights.preprocessing.normalise(batch)) for batch in pixels.split(BATCH)]).numpy()


def run_original(file: Path, images: np.ndarray) -> tuple[str, np.ndarray | None]:
    """Name of the runtime that a file is for, and its logits (N, 1000) up to a constant; None if not installed."""
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
    """Spearman's rank correlation; ties are broken by position."""
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


if __name__ == "__main__":
    main()
