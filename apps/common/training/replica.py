"""The network of a process that trains it with others: gradients and statistics are averaged over all of them.

Letters in shapes: B batch, C channels, H W height and width.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from apps.common.training.distributed import Processes

BUCKET_MB = 4  # of gradients that are sent together; torch's 25 would hold most of these networks


class Replica:
    """Calls a network; with several processes the backward pass averages its gradients over them.

    `DistributedDataParallel` does it, in buckets and overlapping the backward pass. Only this class wraps the network,
    so that everything else sees the network itself, and it wraps it again whenever other parameters learn.

    Args:
        network: on its device.
        others: further modules that are trained, outside the network's forward pass.
        accumulate: batches of a step; gradients are averaged in the last one's backward pass.
        sync_norm: the network's BatchNorms normalise by the batches of all processes together.

    Raises:
        ValueError: `sync_norm` with a network that has no BatchNorm.
    """

    def __init__(
        self,
        network: nn.Module,
        processes: Processes = Processes(),  # noqa: B008
        *others: nn.Module,
        accumulate: int = 1,
        sync_norm: bool = False,
    ) -> None:
        self.network, self.others, self.processes, self.accumulate = network, others, processes, accumulate
        self.wrapped: DistributedDataParallel | None = None
        self.learning: list[nn.Parameter] = []
        if sync_norm and not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
            raise ValueError("--sync-norm: this network has no BatchNorm, leave the flag out")
        if sync_norm and processes.count > 1:
            synchronise_norms(network)

    def __call__(self, images: Tensor, number: int) -> Any:
        """The network's output for batch `number` (0 to accumulate - 1) of a step."""
        if self.processes.count == 1:
            return self.network(images)
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if self.wrapped is None or list(map(id, learning)) != list(map(id, self.learning)):
            self.wrapped, self.learning = _wrap(self.network, learning), learning
        self.wrapped.require_backward_grad_sync = number == self.accumulate - 1  # as `no_sync`, for a whole batch
        return self.wrapped(images)

    def parameters(self) -> list[nn.Parameter]:
        """Of the network and the other modules."""
        return [parameter for module in (self.network, *self.others) for parameter in module.parameters()]

    def average_statistics(self) -> None:
        """After each step: average the running statistics of BatchNorms in training mode over the processes."""
        norms = [m for m in self.network.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
        statistics = [value for norm in norms for value in (norm.running_mean, norm.running_var) if value is not None]
        if self.processes.count == 1 or not statistics:
            return
        means = self.processes.mean(torch.cat(statistics))
        for value, mean in zip(statistics, means.split([len(value) for value in statistics]), strict=True):
            value.copy_(mean)


class _Learning(nn.Module):
    """The module that DDP wraps: the parameters that learn, without the network's buffers, which it would copy."""

    def __init__(self, network: nn.Module, learning: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.learning = nn.ParameterList(learning)
        self.call = network.__call__

    def forward(self, images: Tensor | None) -> Any:
        """The network's output; of no images a number whose gradients come last parameter first, as they mostly do."""
        return torch.stack([one.sum() for one in self.learning]).sum() if images is None else self.call(images)


def _wrap(network: nn.Module, learning: Sequence[nn.Parameter]) -> DistributedDataParallel:
    """DDP after its first backward pass, by which it sorts its buckets anew.

    A sum over three processes or more depends on its place in a bucket, and a run that was stopped must go on to the
    bit.
    """
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")  # of depthwise filters: the same
    wrapped = DistributedDataParallel(
        _Learning(network, learning), bucket_cap_mb=BUCKET_MB, gradient_as_bucket_view=True
    )
    wrapped(None).backward()
    for parameter in learning:
        parameter.grad = None
    return wrapped


def synchronise_norms(network: nn.Module) -> None:
    """Replace each BatchNorm by `torch.nn.SyncBatchNorm`, on a CPU by `SyncNorm`; parameters stay the same objects."""
    nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if isinstance(module, nn.SyncBatchNorm) and not module.weight.is_cuda:
            module.__class__ = SyncNorm


class _SumOverProcesses(torch.autograd.Function):
    """A tensor's sum over the processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _SumOverProcesses.apply(grad)


class SyncNorm(nn.SyncBatchNorm):
    """torch's runs on GPUs only; this one on any device, by sums over the processes that gradients flow through."""

    num_batches_tracked: Tensor
    running_mean: Tensor
    running_var: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, H, W) by the statistics of all processes' batches, which are of one size."""
        if not self.training:
            return super().forward(x)
        wide = x.float()
        numbers = dist.get_world_size() * (x.numel() // x.shape[1])
        mean = _SumOverProcesses.apply(wide.sum((0, 2, 3))) / numbers
        centred = wide - mean[:, None, None]
        variance = _SumOverProcesses.apply(centred.square().sum((0, 2, 3))) / numbers
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (numbers / (numbers - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)
