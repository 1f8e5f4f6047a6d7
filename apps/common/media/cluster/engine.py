"""Compute parts by actors of Ray Data, on this machine or on a cluster.

Ray starts the actors, assigns parts to them, and reassigns a part when its process or machine is lost. An actor reads,
decodes and computes a whole part and returns the bytes of its file.
"""

import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from apps.common.cli import plain_message
from apps.common.media.cluster.inputs import Part

STORE_BYTES = 256 * 2**20  # Ray's object store on this machine; a part's file has a few hundred kilobytes
WAVE = 10_000  # parts that Ray knows of at once
MOST_TRIES = 100  # of a part whose process dies; until a lost machine is noticed, there is one a second
MOST_FAILED = 10  # parts, before all is ended
MOST_THREADS = 16  # that decode photos for an actor
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # an actor without a GPU sees none
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
}


class Done(NamedTuple):
    """The outcome of a part.

    Attributes:
        data: its file.
        num_photos, num_problems: its rows, and the number of those that could not be read.
        error: why it could not be computed; "" if it could.
    """

    number: int
    data: bytes = b""
    num_photos: int = 0
    num_problems: int = 0
    error: str = ""


Compute = Callable[[Part, ThreadPoolExecutor, int], Done]
"""What an actor holds: from a part to its file, with threads that decode, and so many photos ahead."""


class Actor:
    """Computes parts; Ray makes it, once for each session.

    Args:
        start: makes what computes; its errors are each part's.
        threads: that decode.
    """

    def __init__(self, start: Callable[[], Compute], threads: int) -> None:
        self.pool, self.ahead = ThreadPoolExecutor(threads), max(8, 2 * threads)
        try:
            self.compute: Compute | str = start()
        except Exception as error:
            self.compute = _message(error)

    def __call__(self, rows: Mapping[str, np.ndarray]) -> dict[str, list[bytes]]:
        """Compute the part in a row; it and the outcome are pickled."""
        part: Part = pickle.loads(rows["part"][0])
        try:
            if isinstance(self.compute, str):
                done = Done(part.number, error=self.compute)
            else:
                done = self.compute(part, self.pool, self.ahead)
        except Exception as error:
            done = Done(part.number, error=_message(error))
        return {"done": [pickle.dumps(done)]}


def _message(error: Exception) -> str:
    kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
    return kind + plain_message(error)


def compute_parts(
    parts: Sequence[Part],
    start: Callable[[], Compute],
    *,
    folder: Path,
    address: str | None,
    actors: int | None,
    threads: int,
    gpu: bool | None,
) -> Iterator[Done]:
    """The outcome of each part, in the order in which they become ready; those whose processes died are left out.

    To be called in a process of its own.

    Args:
        start: makes what an actor holds; it is pickled.
        folder: an empty one, for what Ray started here leaves.
        address: of a cluster; None for this machine.
        actors: how many; default one for each GPU, or for `threads` cores.
        threads: of the network in an actor.
        gpu: whether each actor has one; None if there are some.

    Raises:
        ValueError: no cluster answers, or it has not what was asked for; too many processes died.
    """
    with _ray(address, folder) as ray:
        have = ray.cluster_resources()
        cores, gpus = int(have.get("CPU", 0)), int(have.get("GPU", 0))
        gpu = gpus > 0 if gpu is None else gpu
        if cores < 1 or (gpu and not gpus):
            raise ValueError(f"the cluster has {cores} cores and {gpus} GPUs: {'no GPU' if cores else 'no core'}")
        actors = min(actors or (gpus if gpu else max(1, cores // threads)), len(parts))
        decoders = min(max(1, cores // actors), MOST_THREADS)
        # half of the cores are not asked for: when machines are lost, their actors find a place on the others
        need = {"num_gpus": 1, "num_cpus": 0} if gpu else {"num_cpus": threads / 2}
        pool = ray.data.ActorPoolStrategy(  # two parts at once: one is read while the other is computed
            size=actors,
            max_tasks_in_flight_per_actor=2,
            max_concurrent_calls_per_actor=2,
            enable_true_multi_threading=True,
        )
        for first in range(0, len(parts), WAVE):
            rows = [{"part": pickle.dumps(part)} for part in parts[first : first + WAVE]]
            done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                Actor,
                fn_constructor_args=(start, decoders),
                batch_size=1,
                compute=pool,
                max_restarts=-1,
                max_task_retries=MOST_TRIES - 1,
                **need,
            )
            for batch in done.iter_batches(batch_size=None, prefetch_batches=0):
                yield from map(pickle.loads, batch["done"])


@contextmanager
def _ray(address: str | None, folder: Path) -> Iterator[Any]:
    """Ray, connected to a cluster, or started here and ended after the block."""
    os.environ.update(ENVIRONMENT)
    import ray
    import ray.data
    from ray.exceptions import RayError

    here: Any = {"include_dashboard": False, "object_store_memory": STORE_BYTES, "_temp_dir": str(folder)}
    try:
        ray.init(address or "local", log_to_driver=False, **({} if address else here))
    except Exception as error:  # of many kinds
        why = plain_message(error)[:200]
        raise ValueError(f"Ray cannot be used: {why}") from None
    try:
        ray.data.DataContext.get_current().max_errored_blocks = MOST_FAILED
        yield ray
    except RayError as error:
        raise ValueError(f"Ray ended: {plain_message(error)[-200:]}") from None
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)  # whoever made it may have been killed
