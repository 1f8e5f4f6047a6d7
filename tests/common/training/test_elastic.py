"""`torchrun --max-restarts 3 train.py --resume auto --out RUN`: whatever is killed, the run goes on to the bit.

This file is also the script of those processes.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from apps.common.cli import run_command
from apps.common.training.distributed import Processes, fresh_store
from apps.common.training.run_log import read_metrics
from apps.common.training.run_state import RunState
from apps.finegrained import train as script
from tests.common.mistakes import error_of
from tests.finegrained.conftest import draw_photos

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
NUM_STEPS = 8
FLAGS = "--backbone a025 --resolution 32 --weights none --batch-size 8 --num-workers 1 --device cpu --amp none".split()
FLAGS += f"--steps {NUM_STEPS} --eval-every 3 --checkpoint-every 2 --lr 0.01 --mixup 0.2".split()
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def main(folder: str, rank: str, step: str) -> None:
    """A run without a fault, then one of which a process is killed before it makes a step; torchrun starts both again.

    Args:
        folder: has `data`; the runs become `straight` and `broken`.
    """
    script.eval_script.evaluate = lambda config: {}  # type: ignore[assignment]
    flags = [*FLAGS, "--data", f"{folder}/data", "--out"]
    why = RunState.why_finished

    def killing(state: RunState, num_steps: int) -> str:
        if state.done == int(step):
            os.kill(os.getpid(), signal.SIGKILL)
        return why(state, num_steps)

    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        run_command(script.train, script.Config, [*flags, f"{folder}/straight"])
        if os.environ["RANK"] == rank:
            RunState.why_finished = killing  # type: ignore[method-assign]
    run_command(script.train, script.Config, [*flags, f"{folder}/broken", "--resume", "auto"])


def test_a_killed_process_is_started_again_and_reaches_the_same_bits(tmp_path):
    draw_photos(tmp_path / "data")
    rank, step = random.randrange(2), random.randrange(1, NUM_STEPS)
    command = [*TORCHRUN, "--max-restarts", "3", __file__, str(tmp_path), str(rank), str(step)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}  # of this file in torchrun's processes
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, (rank, step, done.stderr[-3000:])
    assert f"failed (exitcode: -9) local_rank: {rank}" in done.stderr
    assert "Warning" not in done.stderr
    straight, broken = (torch.load(tmp_path / run / "last.pt") for run in ("straight", "broken"))
    torch.testing.assert_close(broken, straight, rtol=0, atol=0, msg=f"rank {rank}, step {step}")
    straight, broken = (load_file(tmp_path / run / "best/model.safetensors") for run in ("straight", "broken"))
    torch.testing.assert_close(broken, straight, rtol=0, atol=0, msg=f"rank {rank}, step {step}")
    runs = [tmp_path / "straight", tmp_path / "broken"]
    evals = [[line for line in read_metrics(run) if line["event"] == "eval"] for run in runs]
    assert len(evals[0]) == 3 and evals[0] == evals[1]
    assert {path.name for path in runs[0].iterdir()} == {path.name for path in runs[1].iterdir()}


def test_addresses_of_killed_processes_are_not_read():
    """What a first start left in the agent's store, its second start does not see."""
    store, found = dist.HashStore(), []

    def join(rank: int) -> None:
        mine = fresh_store(store, Processes(rank, 3))
        assert not mine.check(["address of 0"])
        found.append(mine)

    for start in (1, 2):
        threads = [threading.Thread(target=join, args=(rank,)) for rank in (2, 1, 0)]
        for thread in threads:
            thread.start()
            time.sleep(0.05)
        for thread in threads:
            thread.join(20)
        assert len(found) == 3 * start
        found[-1].set("address of 0", str(start))
        assert [one.get("address of 0").decode() for one in found[-3:]] == [str(start)] * 3


def test_auto_needs_a_folder(capsys):
    line = error_of(capsys, script.train, script.Config, "--resume", "auto")
    assert line.endswith("--resume auto needs --out RUN, the same folder at every start")


def test_auto_begins_goes_on_and_refuses_other_settings(tmp_path, capsys, monkeypatch):
    """A folder without a state, as a kill leaves it before the first one, is begun in."""
    monkeypatch.setattr(script.eval_script, "evaluate", lambda config: {})
    run, flags = tmp_path / "run", [*FLAGS, "--data", str(draw_photos(tmp_path / "data")), "--resume", "auto"]
    (run / ".config.json.unfinished-abcdefgh").mkdir(parents=True)
    (run / "metrics.jsonl").touch()
    steps = [*flags, "--steps", "1", "--eval-every", "1", "--out"]
    run_command(script.train, script.Config, [*steps, str(run)])
    assert not [path for path in run.iterdir() if path.name.startswith(".")]
    before = (run / "metrics.jsonl").read_text()
    assert before.count("eval") == 1
    monkeypatch.chdir(tmp_path)
    run_command(script.train, script.Config, [*steps, "run"])  # it is finished: nothing comes twice
    assert (run / "metrics.jsonl").read_text() == before
    line = error_of(capsys, script.train, script.Config, *steps, "run", "--lr", "0.5")
    assert line.endswith("--lr 0.5 cannot be changed by --resume: the run has 0.01")


def test_machines_must_see_one_folder(tmp_path):
    state = RunState({}, metric="AP")
    config = script.Config(out=tmp_path / "run", batch_size=4)
    gather = {"gather": lambda self, items, total: [*items, 500]}
    processes = type("Two", (Processes,), gather)(0, 2)
    with pytest.raises(
        ValueError, match="begin at different steps, \\[0, 500\\]: the folder of a run must be on a disk"
    ):
        state.open_log(config, app="finegrained", processes=processes)
    assert not (tmp_path / "run").exists()


if __name__ == "__main__":
    main(*sys.argv[1:])
