"""Three processes that train one network: DistributedDataParallel around it, norms over all of them, bits that stay.

This file is also the script of those processes.
"""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from apps.common.training import replica
from apps.common.training.distributed import Processes, join_processes
from apps.common.training.replica import Replica

NUM_PROCESSES, NUM_IMAGES = 3, 12
State = dict[str, Tensor]


class Net(nn.Module):
    """Registered in another order than it is used."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.last = nn.Conv2d(16, 4, 1)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(32, 16, 1)
        self.first = nn.Conv2d(3, 32, 3)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.rest = nn.BatchNorm2d(32).eval()
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.depthwise(self.norm(self.second(self.rest(self.first(images)).relu()))))


def images_of(step: int, group: int = 0, groups: int = 1) -> Tensor:
    images = torch.randn(NUM_IMAGES, 3, 6, 6, generator=torch.Generator().manual_seed(step))
    return images[group::groups].contiguous()


def descend(net: nn.Module) -> None:
    for parameter in net.parameters():
        if parameter.grad is not None:
            parameter.data -= 0.1 * parameter.grad
        parameter.grad = None


def train(net: nn.Module, processes: Processes, steps: range, *, accumulate: int = 1, sync_norm: bool = False) -> State:
    sharing = Replica(net, processes, accumulate=accumulate, sync_norm=sync_norm)
    for step in steps:
        images = images_of(step, processes.rank, processes.count)
        for number, part in enumerate(images.chunk(accumulate)):
            (sharing(part, number).square().mean() / accumulate).backward()
        descend(net)
        sharing.average_statistics()
    return {name: value.clone() for name, value in net.state_dict().items()}


def main(out: str) -> None:
    """Leave what this process has after its steps, by how it was trained."""
    replica.BUCKET_MB = 0.001  # type: ignore[assignment]
    torch.set_num_threads(1)
    processes, _ = join_processes("cpu")
    found = {"straight": train(Net(), processes, range(6))}
    resumed = Net()
    resumed.load_state_dict(train(Net(), processes, range(2)))
    found["resumed"] = train(resumed, processes, range(2, 6))
    found["accumulated"] = train(Net(), processes, range(2), accumulate=4)
    found["synchronised"] = train(Net(), processes, range(2), sync_norm=True)
    phases = Net()
    sharing = Replica(phases, processes)
    for step in range(2):
        phases.first.requires_grad_(step > 0)
        sharing(images_of(step, processes.rank, processes.count), 0).square().mean().backward()
        descend(phases)
        sharing.average_statistics()
    found["two phases"] = phases.state_dict()
    torch.save(found, out + str(processes.rank))


def train_alone(steps: range, *, groups: int, frozen_steps: int = 0) -> State:
    """What one process has that sees all images, in groups that are normalised apart."""
    net = Net()
    for step in steps:
        net.first.requires_grad_(step >= frozen_steps)
        before, after = [value.clone() for value in net.norm.buffers()], []
        for group in range(groups):
            for value, at_first in zip(net.norm.buffers(), before, strict=True):
                value.copy_(at_first)
            (net(images_of(step, group, groups)).square().mean() / groups).backward()
            after.append([value.clone() for value in net.norm.buffers()])
        for value, *each in zip(net.norm.buffers(), *after, strict=True):
            value.copy_(sum(each) / groups)
        descend(net)
    return net.state_dict()


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[str, State]]:
    """Of each process, what `main` leaves."""
    folder = tmp_path_factory.mktemp("replica")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(NUM_PROCESSES)]
    done = subprocess.run([*torchrun, __file__, str(folder / "found")], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[:4000]
    assert "Warning" not in done.stderr
    return [torch.load(folder / f"found{rank}") for rank in range(NUM_PROCESSES)]


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_all_processes_have_one_network_to_the_bit(found):
    """Statistics of norms that learn are averaged as gradients are."""
    for way, state in found[0].items():
        assert all(equal(other[way], state) for other in found)
        assert state.keys() == Net().state_dict().keys()  # without DDP's "module."


def test_a_resumed_run_sums_in_the_same_order(found):
    """torch sorts its buckets anew after the first step, and a sum of three depends on its place in a bucket."""
    assert equal(found[0]["resumed"], found[0]["straight"])


@pytest.mark.parametrize(
    ("way", "options"),
    [
        ("straight", {"steps": range(6), "groups": NUM_PROCESSES}),
        ("accumulated", {"steps": range(2), "groups": NUM_IMAGES}),
        ("synchronised", {"steps": range(2), "groups": 1}),
        ("two phases", {"steps": range(2), "groups": NUM_PROCESSES, "frozen_steps": 1}),
    ],
)
def test_steps_are_those_of_one_process(found, way, options):
    expected = train_alone(**options)
    if way == "accumulated":  # the statistics of one batch come after those of another
        found = [{way: {n: v for n, v in found[0][way].items() if "norm.running" not in n and "tracked" not in n}}]
        expected = {name: expected[name] for name in found[0][way]}
    torch.testing.assert_close(found[0][way], expected, rtol=0, atol=1e-6)


def test_one_process_has_the_network_itself():
    images = torch.randn(2, 3, 6, 6)
    sharing = Replica(Net(), sync_norm=True)
    torch.testing.assert_close(sharing(images, 0), Net()(images), rtol=0, atol=0)
    assert sharing.wrapped is None
    with pytest.raises(ValueError, match="--sync-norm: this network has no BatchNorm"):
        Replica(nn.Conv2d(3, 3, 1), sync_norm=True)


if __name__ == "__main__":
    main(sys.argv[1])
