"""The catalog is complete, and agrees with the libraries that publish the files where those are installed."""

import csv
import re
import subprocess
import sys
from importlib import resources

import pytest

from backbone.weights import CATALOG, find_entry, imagenet_entries
from backbone.weights.classes import load_class_names


def test_counts_and_unique_names():
    names = [entry.name for entry in CATALOG]
    files = [entry.file_name for entry in CATALOG]
    assert len(set(names)) == len(set(files)) == len(CATALOG) == 7 + 32 + 32 + 3
    for prefix, number in (("keras", 32), ("google", 32), ("timm", 2), ("pytorchcv", 4), ("cub", 1), ("coco", 3)):
        assert sum(name.startswith(prefix) for name in names) == number


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_entry(entry):
    assert re.fullmatch(r"https://[\w.-]+/[\w./-]+", entry.url)
    for digest in (entry.digest, entry.inner_digest):
        algorithm, _, number = (digest or "").partition(":")
        assert len(number) == {"sha1": 40, "sha256": 64, "sha384": 96, "": 0}[algorithm]
        assert re.fullmatch("[0-9a-f]*", number)
    assert entry.num_classes in (0, 200, 1000, 90) and entry.licence
    assert (entry.top1 is None) == (entry.num_classes == 0 or entry.task == "detection")
    tensorflow = entry.name.startswith(("keras", "google", "coco"))
    assert (entry.padding, entry.norm_eps) == (("same", 1e-3) if tensorflow else ("symmetric", 1e-5))
    assert find_entry(entry.name) is find_entry(entry.file_name) is entry


@pytest.mark.parametrize(
    "width_mult, name, top1",
    [
        (1.25, "timm-a125", 76.9),
        (1, "timm-a100", 75.4),
        (0.75, "pytorchcv-a075", 69.9),
        (0.5, "pytorchcv-a050", 65.9),
        (0.25, "pytorchcv-a025", 53.7),
    ],
)
def test_best_of_a_width(width_mult, name, top1):
    entry, *others = imagenet_entries(width_mult)
    assert all(entry.top1 >= other.top1 for other in others)
    assert (entry.name, entry.top1, entry.class_list, entry.num_classes) == (name, top1, "imagenet", 1000)


def test_no_such_weights():
    with pytest.raises(ValueError, match=r"published for width 0\.6: there are a025, a050, a075, a100, a125.*none"):
        imagenet_entries(0.6)
    with pytest.raises(ValueError, match=r"called 'tim-a100': did you mean timm-a100"):
        find_entry("tim-a100")


def test_official_addresses():
    for name, url in {
        "keras-a075-160-notop": "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"
        "mobilenet_7_5_160_tf_no_top.h5",
        "keras-a100-224": "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"
        "mobilenet_1_0_224_tf.h5",
        "google-a100-128": "https://storage.googleapis.com/download.tensorflow.org/models/mobilenet_v1_2018_08_02/"
        "mobilenet_v1_1.0_128.tgz",
        "google-a025-192-quant": "https://storage.googleapis.com/download.tensorflow.org/models/"
        "mobilenet_v1_2018_08_02/mobilenet_v1_0.25_192_quant.tgz",
    }.items():
        assert find_entry(name).url == url


def test_pytorchcv_store_agrees():
    pytest.importorskip("pytorchcv")
    text = resources.files("pytorchcv").joinpath("models/common/model_metainfos.csv").read_text()
    store = {row["model_name"]: row for row in csv.DictReader(text.splitlines())}
    names = {"pytorchcv-a100": "w1", "pytorchcv-a075": "w3d4", "pytorchcv-a050": "wd2", "pytorchcv-a025": "wd4"}
    for ours, theirs in {**names, "cub": "w1_cub"}.items():
        entry, row = find_entry(ours), store[f"mobilenet_{theirs}"]
        sha1 = row["checksum"]
        assert entry.inner_digest == f"sha1:{sha1}"
        assert entry.url.endswith(
            f"/{row['repo_release_tag']}/mobilenet_{theirs}-{row['error_value']}-{sha1[:8]}.pth.zip"
        )


def test_class_names():
    pytest.importorskip("torchvision")
    names = load_class_names("imagenet")
    assert len(names) == 1000 and (names[3], names[13], names[993]) == ("tiger shark", "junco", "gyromitra")
    birds = load_class_names("cub200")
    assert len(set(birds)) == 200 and (birds[0], birds[199]) == ("Black footed Albatross", "Common Yellowthroat")
    assert load_class_names("coco") is None and load_class_names(None) is None


def test_importing_needs_torch_alone():
    code = (
        "import sys, backbone.weights; "
        "print(sorted({'h5py', 'safetensors', 'huggingface_hub', 'torchvision', 'flatbuffers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
