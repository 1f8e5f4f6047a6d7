"""Several processes: they make the step that one process makes, and count every photo once."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from apps.common.cli import run_command
from apps.common.training.distributed import Processes
from apps.common.training.run_log import read_metrics
from apps.common.training.sampling import StepSampler
from apps.detection.data.batches import Targets
from apps.detection.loss.ssd_loss import SSDLoss
from apps.detection.model.create import create_detector
from apps.faceattr.loss.distill_loss import label_loss
from apps.finegrained import train as train_script
from tests.finegrained.conftest import draw_photos

# A photo of its own for each step, so that several steps are compared; BatchNorm rests, since it looks at a batch.
FLAGS = "--backbone a025 --resolution 32 --weights none --steps 3 --freeze-bn stats --lr 0.01".split()
FLAGS += "--num-workers 0 --device cpu --eval-every 3 --augment full --mixup 0 --clip-norm 1 --amp none".split()


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# In two processes: an averaged step of two norms, of which only one learns; then a training run.
SCRIPT = """
import sys, torch
from apps.common.cli import run_command
from apps.common.training.distributed import join_processes
from apps.finegrained import train as script

processes, _ = join_processes("cpu")
norm, rest = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2).eval()
network = torch.nn.Sequential(norm, rest)
network(torch.full((4, 2, 1, 1), float(processes.rank))).sum().backward()
rest.running_mean += processes.rank
norm.bias.grad.fill_(processes.rank)
processes.average_step(network)
mine = [norm.running_mean[0].item(), norm.bias.grad[0].item(), rest.running_mean[0].item()]
print(processes.gather([mine], 2))
run_command(script.train, script.Config)
"""


def flags_of(data: Path, out: Path, *, batch_size: int, accumulate: int) -> list[str]:
    sizes = ["--batch-size", str(batch_size), "--accumulate", str(accumulate)]
    return [*FLAGS, *sizes, "--data", str(data), "--out", str(out)]


def run_two(script: str | Path, flags: list[str]) -> str:
    """What two processes that torchrun starts print."""
    done = subprocess.run([*TORCHRUN, str(script), *flags], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("run: ") == 1  # one process prints
    return done.stdout


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, str]:
    """The folder of the photos and of a run of two processes, and what was printed."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "script.py").write_text(SCRIPT)
    flags = flags_of(draw_photos(folder / "data"), folder / "2-16-1", batch_size=16, accumulate=1)
    return folder, run_two(folder / "script.py", flags)


def test_processes_and_accumulated_batches_make_the_step_of_one_large_batch(two):
    """Two processes of 8 photos, two batches of 8, and two batches of 4 in each of two processes are a step of 16."""
    folder, _ = two
    for batch_size, accumulate in ((16, 1), (8, 2)):
        flags = flags_of(
            folder / "data", folder / f"1-{batch_size}-{accumulate}", batch_size=batch_size, accumulate=accumulate
        )
        run_command(train_script.train, train_script.Config, flags)
    run_two(train_script.__file__, flags_of(folder / "data", folder / "2-8-2", batch_size=8, accumulate=2))

    expected = load_file(folder / "1-16-1/best/model.safetensors")
    losses = [line["loss"] for line in read_metrics(folder / "1-16-1") if "loss" in line]
    for run in (folder / "2-16-1", folder / "1-8-2", folder / "2-8-2"):
        weights = load_file(run / "best/model.safetensors")
        for name in expected:
            torch.testing.assert_close(weights[name], expected[name], rtol=0, atol=1e-5)
        assert json.loads((run / "metrics.json").read_text())["num_photos"] == 6  # each once
        found = [line["loss"] for line in read_metrics(run) if "loss" in line]
        assert found == pytest.approx(losses, abs=1e-5)


def test_processes_have_one_network_after_a_step(two):
    """The statistics of norms that learn are averaged as gradients are; those of others are left alone."""
    (first, second) = json.loads(two[1].splitlines()[0])
    assert first == pytest.approx([0.05, 0.5, 0])
    assert second == pytest.approx([0.05, 0.5, 1])


def test_a_batch_is_shared_out():
    whole = list(StepSampler(10, batch_size=4, num_steps=5, seed=0))
    parts = [
        list(StepSampler(10, batch_size=4, num_steps=5, seed=0, processes=Processes(rank, 2))) for rank in range(2)
    ]
    for step, batch in enumerate(whole):
        assert sorted([*parts[0][step], *parts[1][step]]) == sorted(batch)
        assert len(parts[0][step]) == len(parts[1][step]) == 2
    with pytest.raises(ValueError, match="--batch-size 5 cannot be shared out among 2 processes"):
        Processes(0, 2).check_batch_size(5)


class Pair(Processes):
    """One of two processes; `mean` is given what both have, each time it is asked."""

    asked: Iterator[list[torch.Tensor]]

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        return torch.stack([v.to(value) for v in next(self.asked)]).mean(0)


def pair(rank: int, *values: list[torch.Tensor]) -> Pair:
    process = Pair(rank, 2)
    object.__setattr__(process, "asked", iter(values))
    return process


def test_label_losses_of_two_processes_average_to_that_of_one():
    """Although one has more known labels than the other."""
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 0, -1], [1, 1, 0], [-1, -1, -1], [-1, 0, -1]])
    expected = label_loss(logits, labels)
    parts = []
    for rank in range(2):
        process = pair(rank, [(labels[i::2] != -1).sum() for i in range(2)])
        parts.append(label_loss(logits[rank::2], labels[rank::2], process))
    torch.testing.assert_close(sum(parts) / 2, expected)


def test_detection_losses_of_two_processes_average_to_that_of_one():
    """Although one has more matched anchors than the other."""
    torch.manual_seed(0)
    network = create_detector("a025", num_classes=2, resolution=96, head="ssd").eval()
    with torch.no_grad():
        output = network(torch.randn(4, 3, 96, 96))
    boxes = torch.tensor([[[0.1, 0.1, 0.6, 0.7]], [[0.3, 0.2, 0.4, 0.35]], [[0.0, 0.0, 1.0, 1.0]], [[0.0] * 4]])
    targets = Targets(boxes, torch.tensor([[1], [2], [1], [0]]), torch.zeros(4, 1, dtype=torch.bool))
    anchors = network.anchors_cxcywh
    expected = SSDLoss()(output, anchors, targets)
    halves = [
        ({name: value[i::2] for name, value in output.items()}, Targets(*(part[i::2] for part in targets)))
        for i in range(2)
    ]
    losses = [SSDLoss()(half, anchors, wanted) for half, wanted in halves]
    assert losses[0].divisor != losses[1].divisor
    for rank, loss in enumerate(losses):
        process = pair(rank, [each.sums for each in losses], [each.divisor for each in losses])
        mean = process.mean(loss.sums) / process.at_least_one(process.mean(loss.divisor))
        torch.testing.assert_close(mean, expected.sums / expected.divisor)


def test_shares_weigh_batches_by_what_both_processes_counted():
    """Sums of 6 and 2 over counts of 3 and 0 + 1, and nothing at all: (6 + 2 + 0) / 4 in the end."""
    counts = [[torch.tensor(2), torch.tensor(1)], [torch.tensor(0), torch.tensor(1)], [torch.tensor(0)] * 2]
    for rank in range(2):
        shares = pair(rank, *counts).shares([both[rank] for both in counts])
        sums = 6 / 1.5, 2 / 0.5, 0 / 0.5  # as the losses of this process are divided
        assert sum(share.item() * loss for share, loss in zip(shares, sums, strict=True)) == pytest.approx(8 / 2)
    assert [share.item() for share in Processes().shares([torch.tensor(0), torch.tensor(4)])] == [0.25, 1]
    assert Processes().shares([torch.tensor(7)])[0].item() == 1
