"""Published classifiers in the app: ImageNet's 1000 classes, and CUB's 200 birds."""

import csv
import dataclasses

import pytest
import torch

from apps.finegrained import predict as predict_module
from apps.finegrained.eval import Config, evaluate
from apps.finegrained.model.classifier import Classifier
from apps.finegrained.predict import predict
from backbone.weights import find_entry, load
from tests.backbone.weights.weight_files import shuffle_norms

CPU = torch.device("cpu")


@pytest.fixture
def birds(tmp_path, monkeypatch) -> torch.nn.Module:
    """pytorchcv's network for birds with random weights, whose file stands in for the published one."""
    provider = pytest.importorskip("pytorchcv.model_provider")
    theirs = shuffle_norms(provider.get_model("mobilenet_w1_cub"), seed=1)
    path = tmp_path / find_entry("cub").file_name
    torch.save(theirs.state_dict(), path)
    monkeypatch.setattr(load, "fetch", lambda entry: path)
    return theirs


def test_cub_is_pytorchcvs_network_with_names(birds):
    classifier = Classifier.published("cub", backbone="a100", device=CPU)
    assert (len(classifier.class_names), classifier.class_names[72]) == (200, "Blue Jay")
    assert (classifier.resolution, classifier.crop) == (224, 0.875)
    pixels = torch.randint(0, 256, (2, 3, 224, 224), generator=torch.Generator().manual_seed(0)).byte()
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        expected = birds((pixels / 255 - mean) / std)
    torch.testing.assert_close(classifier.logits(pixels), expected, atol=1e-4, rtol=0)


def test_birds_have_one_width(birds):
    with pytest.raises(ValueError, match=r"width|a100"):
        Classifier.published("cub", backbone="a050", device=CPU)


def test_imagenet_on_real_photos(shared, tmp_path):
    """As the original runtime: 93 of 100, see benchmarks/imagenet_weights.py."""
    pytest.importorskip("h5py")
    weights = shared / "weights" / "mobilenet_1_0_224_tf.h5"
    names = Classifier.published(str(weights), backbone="a100", device=CPU).class_names
    assert len(set(names)) == 1000  # none is called as another
    photos = sorted((shared / "data" / "imagenet_sample").glob("*.JPEG"))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = ([path, names[10 * i + 3], "val"] for i, path in enumerate(photos))
        csv.writer(file).writerows([["file", "label", "split"], *rows])
    config = Config(weights=str(weights), data=str(tmp_path / "labels.csv"), num_workers=0, out=tmp_path / "out")
    values = evaluate(config)
    assert values["num_photos"] == 100 and values["top1"] == pytest.approx(0.93)
    assert (tmp_path / "out" / "report.html").is_file()
    with pytest.raises(ValueError, match="--calibrate writes into a --checkpoint"):
        evaluate(dataclasses.replace(config, calibrate=True))


def test_predicting_without_training(shared, tmp_path, capsys):
    pytest.importorskip("h5py")
    weights = str(shared / "weights" / "mobilenet_1_0_224_tf.h5")
    predict(
        predict_module.Config(weights=weights, source=str(shared / "data/photos/hot_dog.jpg"), out=tmp_path / "out")
    )
    assert "hot_dog.jpg: hotdog" in capsys.readouterr().out
    with pytest.raises(ValueError, match="give --checkpoint RUN/best, or --weights imagenet"):
        predict(predict_module.Config(checkpoint=tmp_path, weights="cub", source="x.jpg"))


def test_wrong_input_is_one_line(shared, tmp_path):
    tflite = shared / "weights" / "ssd_mobilenet_v1_0.75_coco_quant.tflite"
    with pytest.raises(ValueError, match="has no classifier: use imagenet or cub"):
        Classifier.published(str(tflite), backbone="a075", device=CPU)
    with pytest.raises(ValueError, match="--weights none cannot classify before it is trained"):
        Classifier.published("none", backbone="a100", device=CPU)
    with pytest.raises(ValueError, match="is a folder: a model of this app is given as --checkpoint"):
        Classifier.published(str(tmp_path), backbone="a100", device=CPU)
    with pytest.raises(ValueError, match=r"give --checkpoint RUN/best, or --weights imagenet"):
        evaluate(Config())
    with pytest.raises(ValueError, match="--backbone is for --weights alone"):
        evaluate(Config(checkpoint=tmp_path, backbone="a050"))
