"""ZeRO-3 checkpoints of which every rank writes its own part, and that another number of ranks can go on from.

shards/        DeepSpeed's files, one or two a rank
universal/     the same by parameter, made when another number of ranks goes on
engine.json    the number of updates made, and of ranks
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import nn

from vp_ray.distributed.config import OptimizerSettings
from vp_ray.distributed.engines import DeepSpeedEngine, Schedule
from vp_ray.errors import CheckpointError

_SHARDS: Final = "shards"
_UNIVERSAL: Final = "universal"
_COUNTS: Final = "engine.json"


class ShardedEngine(DeepSpeedEngine):
    """DeepSpeed at ZeRO stage 3 whose whole state is never on one rank; the arithmetic is `DeepSpeedEngine`'s.

    The files are DeepSpeed's, which are pickles: go on only from folders that nobody else can write to.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: OptimizerSettings,
        micro_batches: int = 1,
        schedule: Schedule | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(module, optimizer, micro_batches, schedule, zero_stage=3, device=device)

    def save(self, folder: Path) -> None:
        """Writes this rank's part of weights and moments; every rank calls it."""
        self._between_updates(folder)
        # DeepSpeed makes its folder on rank 0 alone, whose disk may be another.
        (folder / _SHARDS).mkdir(parents=True, exist_ok=True)
        self._engine.save_checkpoint(str(folder), tag=_SHARDS, save_latest=False)
        if dist.get_rank() == 0:
            counts = {"updates": self.updates, "ranks": dist.get_world_size()}
            (folder / _COUNTS).write_text(json.dumps(counts) + "\n")
        dist.barrier()

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote: bitwise on as many ranks, and on another number within a rounding of the sums
        that follow. Raises `CheckpointError` where it does not fit. The module must not have been trained yet."""
        try:
            counts: dict[str, int] = json.loads((folder / _COUNTS).read_text())
            updates, ranks = counts["updates"], counts["ranks"]
        except (OSError, ValueError, KeyError) as error:
            raise _broken(folder, error) from None
        universal = ranks != dist.get_world_size()
        if universal:
            _together(lambda: _convert(folder), folder)
            # Nothing is left to do here unless this rank has a copy of its own.
            _convert(folder)
        config = self._engine._config
        config.load_universal_checkpoint = universal
        try:
            path, _ = self._engine.load_checkpoint(
                str(folder), tag=_UNIVERSAL if universal else _SHARDS, load_lr_scheduler_states=False
            )
        except Exception as error:  # DeepSpeed lets through whatever reading a torn file raises
            raise _broken(folder, error) from error
        finally:
            config.load_universal_checkpoint = False
        if path is None:
            raise _broken(folder, "DeepSpeed finds nothing there")
        self.updates = updates
        self._engine.micro_steps = updates * self._engine.gradient_accumulation_steps()


def _broken(folder: Path, error: Any) -> CheckpointError:
    return CheckpointError(
        f"this is no whole sharded state ({error})",
        "Go on from another checkpoint, with the settings that it was made with.",
        str(folder),
    )


def _convert(folder: Path) -> None:
    """Makes the files by parameter, unless they are there."""
    target = folder / _UNIVERSAL
    if (target / "zero" / "optimizer_state.pt").is_file():
        return
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    command += ["--input_folder", str(folder / _SHARDS), "--output_folder", str(target), "--num_extract_workers", "1"]
    done = subprocess.run([*command, "--num_merge_workers", "1"], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise _broken(folder, (done.stderr.strip().splitlines() or ["ds_to_universal failed"])[-1])


def _together(work: Callable[[], None], folder: Path) -> None:
    """Does the work on rank 0 while the others wait; an error is raised on every rank."""
    problems: list[str] = [""]
    if dist.get_rank() == 0:
        try:
            work()
        except (CheckpointError, OSError) as error:
            problems = [str(error)]
    dist.broadcast_object_list(problems, src=0)
    if problems[0]:
        raise _broken(folder, problems[0])
