"""The command as a user starts it: a process in a session of its own, with a Ray folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

REPOSITORY = Path(__file__).parents[2]

SMALL_LOOP = {
    "judge.latency_seconds": "0.3",
    "prompts.sources.0.counts": "{train: 12, held_out: 8}",
    "generate.batches_per_shard": "1",
    "generate.generators.0.batch_size": "8",
    "generate.generators.0.steps": "4",
    "generate.generators.1.batch_size": "8",
    "generate.generators.1.steps": "4",
    "annotate.annotators.0.concurrency": "2",
    "annotate.requests_per_shard": "4",
    "reward.epochs": "2",
    "reward.batch_groups": "4",
    "reward.validate_every": "2",
    "rl.epochs": "2",
    "rl.prompts_per_epoch": "2",
    "rl.samples_per_prompt": "8",
    "rl.batch_size": "4",
    "rl.held_out_prompts": "4",
    "rl.evaluate_every": "1",
    "rl.evaluation_steps": "4",
    "rl.checkpoint_every": "1",
    "rl.keep": "last",
    "evaluate.base.batch_size": "4",
    "evaluate.base.steps": "4",
    "evaluate.batches_per_shard": "1",
}
"""The demo with so little of everything that each stage still has a middle: several shards, updates and epochs."""

_END_SECONDS = 900.0
_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Ended:
    """What a finished command left on the terminal."""

    code: int
    out: str
    err: str
    seconds: float


class Driver:
    """One `python -m vp_ray` process; a context manager that ends what is left of its session."""

    def __init__(self, arguments: Sequence[str], before: Sequence[str] = ()) -> None:
        """`before` are words in front of the command, such as those that run it on another host."""
        self._scratch = Path(tempfile.mkdtemp(prefix="vpe", dir="/tmp"))
        self._started = time.monotonic()
        with self._log("out").open("wb") as out, self._log("err").open("wb") as err:
            self._process = subprocess.Popen(
                [*before, sys.executable, "-m", "vp_ray", *arguments],
                cwd=REPOSITORY,
                env={**os.environ, "RAY_TMPDIR": str(self._scratch), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # The group keeps its number until its leader is waited for, so that no other process is met.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _log(self, name: str) -> Path:
        return self._scratch / f"{name}.txt"

    def said(self) -> str:
        """What the command has written so far."""
        return f"{self._said('out')}\n{self._said('err')}"

    def _said(self, name: str) -> str:
        return self._log(name).read_text(errors="replace")

    def survivors(self) -> list[str]:
        """The command lines of what this command started and what still runs; its own is not among them."""
        found = []
        for process in psutil.process_iter(["pid", "status", "cmdline"]):
            with suppress(psutil.Error):
                ours = process.environ().get("RAY_TMPDIR") == str(self._scratch)
                if ours and process.pid != self._process.pid and process.info["status"] != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.info["cmdline"]))
        return found

    @property
    def is_running(self) -> bool:
        """Whether the command goes on."""
        # A zombie stays until it is waited for, and with it the number of its group.
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def kill(self) -> None:
        """`kill -9` of the command alone, not of the processes that it started."""
        os.kill(self._process.pid, signal.SIGKILL)

    def interrupt(self) -> None:
        """Ctrl-C as a terminal sends it: to the command and to what it started in its group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def ended(self) -> Ended:
        """Waits for the end of the command."""
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the command did not end:\n{self.said()}") from None
        return Ended(code, self._said("out"), self._said("err"), time.monotonic() - self._started)

    def wait_for(self, reached: Callable[[], bool]) -> None:
        """Returns as soon as `reached()` holds."""
        deadline = time.monotonic() + _END_SECONDS
        while not reached():
            assert self.is_running, f"the command ended early:\n{self.said()}"
            assert time.monotonic() < deadline, f"the moment did not come:\n{self.said()}"
            time.sleep(_POLL_SECONDS)


def small_loop(run: Path | str, **changes: str) -> list[str]:
    """The arguments of the demo at its smallest size, in the run directory `run`; a setting `a.b` is written `a__b`."""
    settings = {**SMALL_LOOP, **{key.replace("__", "."): value for key, value in changes.items()}}
    assignments = [f"{key}={value}" for key, value in settings.items()]
    sets = [word for assignment in (f"run={run}", *assignments) for word in ("--set", assignment)]
    return ["run", "jobs/demo.yaml", *sets]


def command(arguments: Sequence[str]) -> Ended:
    """Runs a command to its end."""
    with Driver(arguments) as driver:
        return driver.ended()
