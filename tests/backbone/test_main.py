"""`python -m backbone`: the tables it prints and the one line a mistake gets."""

import os
import re
import subprocess
import sys

import pytest

from backbone.__main__ import main
from backbone.cost import backbone_cost
from backbone.paper import PAPER_NETS, PAPER_PEERS


@pytest.fixture
def printed(capsys):
    def run(*args):
        main(args)
        out, err = capsys.readouterr()
        assert err == ""
        assert [line for line in out.splitlines() if len(line) > 100] == []
        return out

    return run


def line_of(text, start):
    (found,) = (line for line in text.splitlines() if line.startswith(start))
    return re.split(r"\s{2,}", found)


def test_default_is_the_papers_net(printed):
    text = printed()
    assert text == printed("a100", "--resolution", "224")
    assert line_of(text, "total") == ["total", "568,740,352", "100.00 %", "4,209,088", "4,231,976"]
    conv13 = ["conv13.depthwise", "3x3x1024 dw", "1", "7x7", "451,584", "0.08 %", "9,216", "11,264"]
    assert line_of(text, "conv13.depthwise") == conv13
    assert line_of(text, "stem")[1] == "3x3x3x32"
    assert line_of(text, "classifier")[1] == "1024x1000"


def test_table_2_with_its_misprint_in_the_open(printed):
    text = printed("a100")
    shares = ["539,492,352", "94.86 %", "3,139,584", "74.59 %", "94.86 %", "74.59 %"]
    assert line_of(text, "Conv 1x1")[1:] == shares
    assert line_of(text, "Conv 3x3")[1:] == ["10,838,016", "1.91 %", "864", "0.02 %", "1.19 %*", "0.02 %"]
    assert "* probably 1.91 with two digits swapped in print: the four printed shares add up to only 99.29" in text


def test_table_2_only_beside_its_own_net(printed):
    for args in (
        ("a075",),
        ("a100", "--resolution", "192"),
        ("a100", "--num-classes", "7"),
        ("a100", "--norm", "group"),
    ):
        text = printed(*args)
        assert "Table 2" not in text and "swapped" not in text
        assert "Fully connected" in text


def test_the_papers_figures_beside_ours(printed):
    text = printed("a075", "--resolution", "192")
    assert text.startswith("MobileNet V1 a075 on 192x192 pixels, 1000 classes\n")
    assert line_of(text, "total")[1] == "239,273,472"
    assert line_of(text, "0.75 MobileNet-192") == [
        "0.75 MobileNet-192",
        "10",
        "120",
        "80.5",
        "239",
        "1.9",
        "238.60",
        "1.89",
    ]
    text = printed("a100", "--resolution", "160")
    row = ["1.0 MobileNet-160", "7", "1000", "67.2", "290*", "4.2", "290.68", "4.21"]
    assert line_of(text, "1.0 MobileNet-160") == row
    assert "* the printed figure is the count without the classifier, rounded" in text


@pytest.mark.parametrize("net", PAPER_NETS, ids=lambda net: f"{net.tables}-{net.model}")
def test_every_net_of_the_paper_is_found(printed, net):
    flags = ["--conv", net.conv, *(["--shallow"] if net.shallow else [])]
    text = printed(net.name, "--resolution", str(net.resolution), *flags)
    found = [line for line in text.splitlines() if line.startswith(net.model) and f" {net.num_classes} " in line]
    assert len(found) == 1
    for figure in (net.top1, net.mult_adds, net.params, ", ".join(map(str, net.tables))):
        assert f" {figure}" in found[0]
    assert ("*" in found[0]) is bool(net.known_difference)


def test_variants(printed):
    text = printed("a025", "--conv", "full", "--shallow", "--norm", "group", "--residual", "--num-classes", "0")
    assert "224x224 pixels, no classifier, full convolutions, shallow, group norm, residual\n" in text
    cost = backbone_cost("a025", conv="full", shallow=True, norm="group", residual=True, num_classes=0)
    assert line_of(text, "total")[1] == f"{cost.mult_adds:,}"
    assert "residual additions have no multiplication" in text
    assert "conv7" not in text and "classifier " not in text
    assert "The paper prints no figures for this network." in text


def test_height_and_width(printed):
    text = printed("a033", "--resolution", "240x321")
    assert "240x321 pixels" in text
    assert line_of(text, "stem")[3] == "120x161"
    assert line_of(text, "total")[1] == f"{backbone_cost('a033', (240, 321)).mult_adds:,}"


def test_all_16_nets_of_figure_4(printed):
    text = printed("--all")
    rows = [re.split(r"\s{2,}", line) for line in text.splitlines() if re.match(r"a\d{3} ", line)]
    assert [row[:2] for row in rows] == [
        [name, side] for name in ("a100", "a075", "a050", "a025") for side in ("224", "192", "160", "128")
    ]
    assert rows[0] == ["a100", "224", "568.74", "100.00 %", "4.21", "4.23", "70.6", "569", "4.2", "4, 6, 7, 8"]
    assert rows[10] == ["a050", "160", "76.52", "13.46 %", "1.32", "1.33", "60.2", "76*", "1.32", "9"]
    assert rows[15] == ["a025", "128", "13.57", "2.39 %", "0.46", "0.47"]
    assert sum(len(row) == 10 for row in rows) == 8  # that Tables 4 to 7 and 9 print


def test_all_takes_variants(printed):
    rows = [line for line in printed("--all", "--conv", "full").splitlines() if re.match(r"a\d{3} ", line)]
    assert "4867.29" in rows[0] and "4866*" in rows[0] and "71.7" in rows[0]
    dogs = [line for line in printed("--all", "--num-classes", "120").splitlines() if re.match(r"a\d{3} ", line)]
    assert "83.3" in dogs[0] and "80.5" in dogs[5]


def test_compare(printed):
    pytest.importorskip("torchvision")
    text = printed("a075", "--resolution", "192", "--compare")
    assert line_of(text, "a075 192x192") == ["a075 192x192", "239.27", "2.59", "1.00", "1.00"]
    vgg = ["VGG 16 [2]", "71.5", "15300", "138", "15470.26", "138.36", "64.66", "53.51"]
    assert line_of(text, "VGG 16") == vgg
    for number, peer in enumerate(PAPER_PEERS, 1):
        row = line_of(text, f"{peer.model} [{number}]")
        assert row[1:4] == [peer.top1, peer.mult_adds, peer.params]
        assert f"[{number}] {peer.why}\n" in text
    assert line_of(text, "0.50 MobileNet-160")[1:6] == ["60.2", "76*", "1.32", "76.52", "1.33"]


def test_compare_after_all(printed):
    pytest.importorskip("torchvision")
    text = printed("--all", "--compare")
    assert len([line for line in text.splitlines() if re.match(r"a\d{3} ", line)]) == 16
    assert line_of(text, "VGG 16")[-2:] == ["27.20", "32.69"]  # "32 times smaller and 27 times less compute intensive"


MISTAKES = {
    ("a75",): "unknown backbone 'a75': did you mean a075?",
    ("a100", "--resolution", "10"): "resolution must be at least 32 pixels, got 10x10",
    ("--resolution", "-3"): "resolution must be at least 32 pixels, got -3x-3",
    ("--resolution", "224x31"): "resolution must be at least 32 pixels, got 224x31",
    ("--resolution", "12x"): "argument --resolution: must be a side (192) or HEIGHTxWIDTH (240x320), got '12x'",
    ("--resolution", "1x2x3"): "must be a side (192) or HEIGHTxWIDTH (240x320), got '1x2x3'",
    ("--resolution", "big"): "must be a side (192) or HEIGHTxWIDTH (240x320), got 'big'",
    ("--num-classes", "-1"): "num_classes must be 0 (no classifier) or more, got -1",
    ("--norm", "instance"): "argument --norm: invalid choice: 'instance'",
    ("--shalow",): "unrecognized arguments: --shalow",
    ("--res", "192"): "unrecognized arguments: --res",
    ("a100", "--all"): "--all has its own 16 widths and resolutions",
    ("--all", "--resolution", "96"): "--all has its own 16 widths and resolutions",
}


@pytest.mark.parametrize(("args", "message"), MISTAKES.items(), ids=map(" ".join, MISTAKES))
def test_a_mistake_gets_one_line_and_exit_code_2(capsys, args, message):
    with pytest.raises(SystemExit) as stop:
        main(args)
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert out == ""
    assert err.startswith("python -m backbone: error: ") and message in err
    assert err.count("\n") == 1 and err.endswith("\n")


def test_compare_without_torchvision(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(SystemExit) as stop:
        main(["--compare"])
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1)
    assert "--compare takes the other nets from torchvision" in err


def test_help_shows_the_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "python -m backbone a075 --resolution 192" in capsys.readouterr().out


def test_as_a_command_with_torch_alone(tmp_path):
    """Importing anything that the backbone does not need would end in a traceback here."""
    for name in ("torchvision", "timm", "tyro", "cv2", "h5py", "safetensors", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not needed for this')")
    done = subprocess.run(
        [sys.executable, "-m", "backbone", "a75"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("python -m backbone: error: unknown backbone 'a75': did you mean a075?")
    assert done.stderr.count("\n") == 1
