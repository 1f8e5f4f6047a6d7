"""What millions to billions of photos take, from measured rates, and what stragglers and lost machines add: on paper.

    python benchmarks/cluster_scale.py                       docs/cluster.md has what it printed
    python benchmarks/cluster_scale.py --network 123 --photo-kb 56 --cores 32 --machines 100

The rates (photos a second of a core) are those of `benchmarks/cluster.py stages`. The simulation hands parts to actors
as Ray does: an actor takes the next part when one is finished, and the parts of a lost machine are handed out again.
"""

import argparse
import heapq
import random
from typing import NamedTuple


class Rates(NamedTuple):
    """Photos a second of one core."""

    read: float
    decode: float
    resize: float
    network: float
    write: float

    @property
    def all_stages(self) -> float:
        """One after the other on the same core."""
        return 1 / sum(1 / rate for rate in self)


class Outcome(NamedTuple):
    """Of a simulated job: hours, how much longer than an even division without losses, and parts computed in vain."""

    hours: float
    beyond: float
    repeated: int


def simulate(
    num_parts: int, seconds: float, *, machines: int, cores: int, slow: float, losses: float, seed: int = 0
) -> Outcome:
    """A job of parts of equal work on actors of one core each.

    Args:
        seconds: of a part on a core.
        slow: share of the machines that need three times as long.
        losses: of each machine, a day; one that is lost comes back after ten minutes.
    """
    rng = random.Random(seed)
    pace = [3.0 if rng.random() < slow else 1.0 for _ in range(machines)]
    next_loss = [rng.expovariate(losses / 86400) if losses else float("inf") for _ in range(machines)]
    free = [(0.0, machine) for machine in range(machines) for _ in range(cores)]
    heapq.heapify(free)
    waiting, repeated, end, again = num_parts, 0, 0.0, list[float]()
    while waiting or again:
        now, machine = heapq.heappop(free)
        if not waiting and again and now < again[0]:
            heapq.heappush(free, (again[0], machine))
            continue
        if waiting:
            waiting -= 1
        else:
            heapq.heappop(again)
        done = now + seconds * pace[machine] * rng.uniform(0.9, 1.1)
        while next_loss[machine] < now:
            next_loss[machine] += rng.expovariate(losses / 86400)
        if done > next_loss[machine]:
            repeated += 1
            heapq.heappush(again, next_loss[machine])
            heapq.heappush(free, (next_loss[machine] + 600, machine))
        else:
            end = max(end, done)
            heapq.heappush(free, (done, machine))
    even = num_parts * seconds / sum(cores / one for one in pace)
    return Outcome(end / 3600, end / even - 1, repeated)


def main(args: argparse.Namespace) -> None:
    rates = Rates(args.read, args.decode, args.resize, args.network, args.write)
    print(f"{rates.all_stages:.0f} photos a second of a core, all stages; shares: ", end="")
    print(", ".join(f"{name} {rates.all_stages / rate:.0%}" for name, rate in rates._asdict().items()))
    print("photos            core-hours   read, GB   written, GB   parts      on 32 cores   on 3,200 cores")
    for name, photos in (("1 million", 1e6), ("100 million", 1e8), ("10 billion", 1e10)):
        hours, parts = photos / rates.all_stages / 3600, max(1000, photos / args.part)
        read, written = photos * args.photo_kb / 1e6, photos * args.row_bytes / 1e9
        few, many = (f"{hours / cores:,.1f} h" for cores in (32, 3200))
        print(f"{name:15} {hours:12,.0f} {read:10,.0f} {written:13,.1f} {parts:10,.0f} {few:>13} {many:>16}")
    print(f"\n100 million photos on {args.machines} machines of {args.cores} cores:")
    print("photos a part   slow machines   losses a day, each   hours   beyond an even division   parts again")
    for part in (10_000, 1_000):
        for slow, losses in ((0.0, 0.0), (0.05, 0.0), (0.0, 1.0), (0.0, 24.0), (0.05, 24.0)):
            job = {"machines": args.machines, "cores": args.cores, "slow": slow, "losses": losses}
            found = simulate(int(1e8 / part), part / rates.all_stages, **job)
            figures = f"{found.hours:7.3f} {found.beyond:25.1%} {found.repeated:13,}"
            print(f"{part:13,} {slow:15.0%} {losses:20.0f} {figures}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--read", type=float, default=106_000)
    parser.add_argument("--decode", type=float, default=1_189)
    parser.add_argument("--resize", type=float, default=4_649)
    parser.add_argument("--network", type=float, default=123)
    parser.add_argument("--write", type=float, default=196_000)
    parser.add_argument("--photo-kb", type=float, default=56)
    parser.add_argument("--row-bytes", type=float, default=81)
    parser.add_argument("--part", type=int, default=10_000)
    parser.add_argument("--machines", type=int, default=100)
    parser.add_argument("--cores", type=int, default=32)
    main(parser.parse_args())
