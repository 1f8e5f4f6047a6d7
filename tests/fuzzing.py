"""Seeded damage to files: whatever the bytes, a reader gives a result or a ValueError of one line, in bounded memory.

A test module lists what it reads in `FORMATS` and calls `fuzz` on itself:

    FORMATS = {"csv": Format(lambda: [b"a,b"], read=read_csv)}

    def test_fuzz(request):
        fuzz(__name__, request.config)      # `--fuzz-runs N` for more than a few seconds of it

The readers run in a process of their own, whose memory is limited, so that one which crashes or fills the memory is
found, too. A fault names its seed: `python -m tests.fuzzing MODULE FORMAT SEED FILE` writes that file, and
`python -m tests.fuzzing all MINUTES SEED` reads damaged files of all formats, as long as is said.
"""

import importlib
import itertools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.damage import Damage

JOINERS = "\u200c\u200d"  # which Persian and Hindi write
MEMORY_BYTES = 1 << 30  # that a reader may take beyond what the process has when it begins
SECONDS = 20  # that it may take for one file
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 20, 1 << 30)
WORDS = (b"-1", b"0", b"1e999", b"NaN", b"null", b"99999999999", b"\x00", b"\xff\xfe", b"../", b"[", b"{", b'"', b"\n")


@dataclass(frozen=True)
class Format:
    """A kind of file: sound samples, and what reads a damaged one, given its bytes and an empty folder.

    `runs` is how many damaged files a test reads without `--fuzz-runs`. Errors of `allowed` are fine, too. `damage`
    knows the format, see damage.py: of three files two have such damage, of which one alone.
    """

    samples: Callable[[], Sequence[bytes]]
    read: Callable[[bytes, Path], object]
    runs: int = 100
    allowed: tuple[type[Exception], ...] = ()
    damage: Damage | None = None


def mutate(samples: Sequence[bytes], seed: int, damage: Damage | None = None) -> bytes:
    """One of the samples with some kinds of damage; the same for the same seed."""
    draw = random.Random(seed)
    data = bytearray(draw.choice(samples))
    known = seed % 3 if damage else 0
    if damage and known:
        data = bytearray(damage(bytes(data), draw))
    for _ in range(0 if known == 1 else draw.choice((1, 1, 2, 4))):
        draw.choice((_flip, _flip, _number, _number, _cut, _double, _remove, _word))(data, draw)
    return bytes(data)


def _place(data: bytearray, draw: random.Random) -> int:
    """Anywhere; often near an end, where formats keep their tables."""
    near = draw.randrange(min(len(data), 512)) if data else 0
    return draw.choice((near, max(0, len(data) - 1 - near), draw.randrange(len(data)) if data else 0))


def _flip(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 1, 8)) if data else 0):
        data[_place(data, draw)] ^= 1 << draw.randrange(8)


def _number(data: bytearray, draw: random.Random) -> None:
    """A length or an offset, perhaps: 1 to 8 bytes become a number of either byte order."""
    size = draw.choice((1, 2, 4, 8))
    value = draw.choice((*NUMBERS, len(data), draw.randrange(1 << 32))) % (1 << 8 * size)
    at = _place(data, draw) // draw.choice((1, size)) * draw.choice((1, 1))
    data[at : at + size] = value.to_bytes(size, draw.choice(("little", "big")))


def _cut(data: bytearray, draw: random.Random) -> None:
    del data[_place(data, draw) :]


def _chunk(data: bytearray, draw: random.Random) -> tuple[int, int]:
    start = _place(data, draw)
    return start, start + draw.choice((1, 4, 16, 64, 512))


def _double(data: bytearray, draw: random.Random) -> None:
    start, end = _chunk(data, draw)
    at = draw.choice((end, _place(data, draw)))
    data[at:at] = data[start:end] * draw.choice((1, 1, 2, 50))


def _remove(data: bytearray, draw: random.Random) -> None:
    start, end = _chunk(data, draw)
    del data[start:end]


def _word(data: bytearray, draw: random.Random) -> None:
    at, word = _place(data, draw), draw.choice(WORDS)
    data[at : at + draw.choice((0, len(word)))] = word


def fuzz(module: str, config: pytest.Config) -> None:
    """Read damaged files of every format of a test module in a process of its own; print counts, fail on any fault."""
    runs, seed = config.getoption("--fuzz-runs"), config.getoption("--fuzz-seed")
    command = [sys.executable, "-m", "tests.fuzzing", module, str(runs or 0), str(seed)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"fuzz"')]
    for line in lines:
        if "counts" in line:
            print(f"{line['fuzz']}: {line['counts']}")
    faults = [f"{line['fuzz']}, seed {line['seed']}: {line['fault']}" for line in lines if "fault" in line]
    if done.returncode:
        last = next((line for line in reversed(lines) if "reads" in line), None)
        at = f"{last['fuzz']}, seed {last['reads']}" if last else "the start"
        faults.append(f"the process ended with {done.returncode} at {at}: {done.stderr[-2000:]}")
    assert not faults, f"{len(faults)} faults\n" + "\n".join(faults[:20])


def _say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def _read(kind: Format, data: bytes) -> tuple[str, str]:
    """What became of one file: "read", "refused" or "fault"; and what was said or is wrong."""
    signal.alarm(SECONDS)
    try:
        with TemporaryDirectory() as folder:
            kind.read(data, Path(folder))
    except ValueError as error:
        said = str(error)
        steers = any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in JOINERS for c in said)
        return ("fault", f"no clean line: {said!r:.300}") if steers else ("refused", said)
    except kind.allowed as error:
        return "refused", str(error)
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-3:]
        return "fault", f"{error!r:.300} at {', '.join(f'{frame.filename}:{frame.lineno}' for frame in where)}"
    finally:
        signal.alarm(0)
    return "read", ""


def main(modules: Sequence[str], runs: int, first_seed: int, *, seconds: float = 0) -> None:
    """The process that `fuzz` starts; with `seconds`, all formats get the same share of them instead of `runs`."""
    formats: dict[str, Format] = {}
    for module in modules:
        formats |= importlib.import_module(module).FORMATS
    samples = {name: kind.samples() for name, kind in formats.items()}
    signal.signal(signal.SIGALRM, _too_slow)
    for name, kind in formats.items():  # the sound files first, which loads every library
        for sample in samples[name]:
            result, wrong = _read(kind, sample)
            assert result == "read", f"{name}: a sample is {result} {wrong}"
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES,) * 2)
    for name, kind in formats.items():
        counts = {"read": 0, "refused": 0, "fault": 0}
        began = time.monotonic()
        for seed in itertools.count(first_seed):
            done = time.monotonic() - began
            if done > seconds / len(formats) if seconds else seed - first_seed == (runs or kind.runs):
                break
            _say(fuzz=name, reads=seed)
            result, wrong = _read(kind, mutate(samples[name], seed, kind.damage))
            counts[result] += 1
            if result == "fault":
                _say(fuzz=name, seed=seed, fault=wrong)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        _say(fuzz=name, counts=counts, seconds=round(time.monotonic() - began, 1), process_mb=peak)


if __name__ == "__main__":
    if sys.argv[1] == "all":
        root = Path(__file__).parent
        found = sorted(path.relative_to(root.parent).with_suffix("") for path in root.rglob("test_fuzz*.py"))
        main([".".join(path.parts) for path in found], 0, int(sys.argv[3]), seconds=60 * float(sys.argv[2]))
    elif len(sys.argv) == 5:
        chosen: Format = importlib.import_module(sys.argv[1]).FORMATS[sys.argv[2]]
        Path(sys.argv[4]).write_bytes(mutate(chosen.samples(), int(sys.argv[3]), chosen.damage))
    else:
        main([sys.argv[1]], int(sys.argv[2]), int(sys.argv[3]))
