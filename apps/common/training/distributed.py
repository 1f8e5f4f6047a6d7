"""Several processes that train one network, started by `torchrun --nproc-per-node 2 apps/detection/train.py ...`.

Every process has the whole network and takes its share of each batch; `replica.Replica` averages gradients, so that N
processes make the same step as one. Without torchrun there is one process, and these functions do nothing.
"""

import atexit
import contextlib
import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from apps.common.checkpoint import MOST_PIXELS
from apps.common.choices import QAT_NEEDS
from apps.common.device import MixedPrecision, choose_device, choose_precision, prepare_training
from backbone.mobilenet_v1 import MIN_RESOLUTION

T = TypeVar("T")
COUNTS = {"resolution": (MIN_RESOLUTION, MOST_PIXELS), "batch_size": (1, 65_536), "seed": (0, 2**63 - 1)}
COUNTS |= dict.fromkeys(("steps", "accumulate", "eval_every", "checkpoint_every"), (1, 10**9 - 1))
COUNTS |= {"num_workers": (0, 1024)}


@dataclass(frozen=True)
class Processes:
    """Which of `count` processes this one is.

    Attributes:
        rank: 0 to count - 1; 0 writes files and prints.
        local_rank: among those of this machine, which is also the number of its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of a list, every `count`-th item."""
        return items[self.rank :: self.count]

    def check_batch_size(self, batch_size: int) -> None:
        """Raise ValueError if a batch cannot be shared out evenly."""
        if batch_size % self.count:
            raise ValueError(f"--batch-size {batch_size} cannot be shared out among {self.count} processes")

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes; no gradient flows through it."""
        if self.count == 1:
            return value
        value = value.detach().clone()
        dist.all_reduce(value)
        return value / self.count

    def shares(self, counts: Sequence[Tensor]) -> list[Tensor]:
        """The weights of the losses of a step's batches, each of which was divided by its own count.

        The weighted losses add up to that of one large batch. Counts are those of this process, one for each batch; the
        mean over the processes is taken, and counted as a positive number, as the losses do.
        """
        means = [self.mean(count.float()) for count in counts]
        whole = self.at_least_one(torch.stack(means).sum())
        return [self.at_least_one(mean) / whole for mean in means]

    def at_least_one(self, mean: Tensor) -> Tensor:
        """A mean count over the processes, as a divisor: it stands for at least one item in all of them together."""
        return mean.clamp(min=1 / self.count)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set in any process."""
        return bool(self.mean(torch.tensor(float(flag), device=device)) > 0) if self.count > 1 else flag

    def gather(self, items: Sequence[T], total: int) -> list[T]:
        """All processes' parts of a list of `total` items, as `share` dealt them out, in the list's order."""
        if self.count == 1:
            return list(items)
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, list(items))
        return [parts[i % self.count][i // self.count] for i in range(total)]

    def from_first(self, value: T) -> T:
        """What the first process has."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    @contextlib.contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """The block runs in the first process, then in the others: for what is downloaded or drawn once and cached."""
        if self.count > 1 and not self.is_first:
            dist.barrier()
        yield
        if self.count > 1 and self.is_first:
            dist.barrier()


class Setting(NamedTuple):
    """Where and how a training process computes."""

    processes: Processes
    device: torch.device
    amp: MixedPrecision
    began: float  # by `now`


def start_training(config: Any) -> Setting:
    """Make this process ready to train as a script's config says, together with the others that torchrun started.

    Raises:
        ValueError: one of `COUNTS` is out of its range, the device is not here, the batch cannot be shared out,
            --sync-norm has nothing to do, or --qat is without a trained model.
    """
    began = now()
    for name, (low, high) in COUNTS.items():
        if (value := getattr(config, name)) is not None and not low <= value <= high:
            raise ValueError(f"--{name.replace('_', '-')} must be from {low} to {high:,}, got {value}")
    if config.qat and not config.resume and config.weights in (None, "none", "imagenet"):
        raise ValueError(QAT_NEEDS)
    prepare_training()
    processes, device = join_processes(config.device)
    processes.check_batch_size(config.batch_size)
    if config.sync_norm and processes.count == 1 and not config.resume:
        raise ValueError("--sync-norm is for several processes, this is one: start with torchrun, or leave it out")
    chosen = choose_device(device)
    return Setting(processes, chosen, choose_precision(chosen, config.amp), began)


def now() -> float:
    """The clock of --minutes, in seconds."""
    return time.monotonic()


def join_processes(device: str) -> tuple[Processes, str]:
    """Join the processes that torchrun started, and the device of this one. All but the first print no more.

    Args:
        device: as given by --device; "auto" and "cuda" become the GPU of the local rank.
    """
    if "LOCAL_RANK" not in os.environ:
        return Processes(), device
    processes = Processes(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if on_gpu:
        torch.cuda.set_device(processes.local_rank)
        device = f"cuda:{processes.local_rank}"
    if not dist.is_initialized():
        store = None
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = fresh_store(dist.TCPStore(*address, is_master=False), processes)
        backend = "nccl" if on_gpu else "gloo"
        dist.init_process_group(backend, store=store, rank=processes.rank, world_size=processes.count)
        atexit.register(_leave)
    if not processes.is_first:
        sys.stdout = open(os.devnull, "w", errors="backslashreplace")
    return processes, device


def fresh_store(store: dist.Store, processes: Processes) -> dist.Store:
    """The store of torchrun's agent, under a prefix that belongs to this start of the processes.

    The agent keeps it while it restarts them, so that the addresses of killed processes are still there. The first
    process gives each of the others its prefix in reply to a fresh random word, and waits until all have it.
    """
    word = uuid.uuid4().hex

    def read(key: str) -> str:
        return store.get(key).decode() if store.check([key]) else ""

    if not processes.is_first:
        store.set(f"asks/{processes.rank}", word)
        while not (reply := read(f"reply/{processes.rank}")).startswith(word):
            time.sleep(0.02)
        word = reply.removeprefix(word)
        store.set(f"has/{processes.rank}", word)
    missing = list(range(1, processes.count)) if processes.is_first else []
    while missing := [rank for rank in missing if read(f"has/{rank}") != word]:
        for rank in missing:
            store.set(f"reply/{rank}", read(f"asks/{rank}") + word)
        time.sleep(0.02)
    return dist.PrefixStore(word, store)


def _leave() -> None:
    """Left to the interpreter's end, the group's threads abort the process now and then, though all of it is done."""
    if dist.is_initialized():
        dist.destroy_process_group()
