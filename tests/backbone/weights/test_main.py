"""The command line: what it prints, and one line with exit code 2 for every mistake."""

import os
import subprocess
import sys

import pytest

from backbone.weights import CATALOG
from backbone.weights.__main__ import main
from tests.backbone.weights.weight_files import keras_layers, write_keras_old

pytest.importorskip("h5py")


def test_list(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mobilenet_1_0_224_tf.h5").touch()
    assert main(["list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == "name width pixels classes top-1 % bits licence cached address".split()
    assert [line.split()[0] for line in lines] == [entry.name for entry in CATALOG]
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    address = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/mobilenet_1_0_224_tf.h5"
    assert rows["keras-a100-224"] == ["a100", "224", "1000", "imagenet", "70.4", "32", "Apache-2.0", "yes", address]
    assert rows["google-a025-128-quant"][4:8] == ["39.5", "8", "Apache-2.0", "no"]


def test_a_reader_that_has_enough_is_no_error():
    code = "import sys; from backbone.weights.__main__ import main; sys.exit(main(['list']))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_inspect(capsys, tmp_path):
    path = tmp_path / "net.h5"
    path.write_bytes(write_keras_old(keras_layers(0.25, num_classes=1000, seed=1)))
    assert main(["inspect", str(path)]) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if "eps" not in line)
    assert facts["file"] == str(path)
    assert facts["kind"] == "Keras .h5"
    assert facts["width"] == "0.25 (a025)"
    assert facts["classes"] == "1000 (imagenet)"
    assert facts["padding"] == "same"
    assert facts["quantised"] == "no"
    assert facts["tensors"] == "137"
    assert facts["parameters"] == "470,072 trainable"


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["fetch", "keras-a100"], "error: no published weights are called 'keras-a100': did you mean keras-a100-"),
        (["inspect", "folder/none.h5"], "error: folder/none.h5: no such file; weights are Keras .h5"),
    ],
)
def test_a_mistake_is_one_line(capsys, arguments, line):
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith(line) and told.err.count("\n") == 1


def test_as_a_command(tmp_path):
    path = tmp_path / "random.bin"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)))
    command = [sys.executable, "-m", "backbone.weights", "inspect", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: {path}: truncated or damaged HDF5 file (") and done.stderr.count("\n") == 1
    done = subprocess.run([*command[:3], "fetsch"], capture_output=True, text=True)
    assert done.returncode == 2 and "invalid choice: 'fetsch'" in done.stderr and "Traceback" not in done.stderr
