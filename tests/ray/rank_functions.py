"""What ranks do in tests: add up, fail with or without a remedy, die once, lose what controls them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist

from vp_ray.errors import NumericsError


def _life(config: dict[str, Any]) -> int:
    """How often this rank has been started, this time included."""
    path = Path(config["folder"]) / f"lives-{dist.get_rank()}"
    with path.open("a") as file:
        file.write("x")
    return len(path.read_text())


def add_up(config: dict[str, Any]) -> None:
    _life(config)
    _sum_of_ranks(config)


def _sum_of_ranks(config: dict[str, Any]) -> None:
    total = torch.tensor(float(dist.get_rank() + 1))
    dist.all_reduce(total)
    text = f"{total.item()} {torch.get_num_threads()} {os.environ['DS_ACCELERATOR']} {config['word']}"
    (Path(config["folder"]) / f"rank-{dist.get_rank()}").write_text(text)


def fail_with_a_remedy(config: dict[str, Any]) -> None:
    _life(config)
    if dist.get_rank() == 1:
        raise NumericsError("the ratio is 2", "Lower the learning rate.", "update 7")
    dist.barrier()


def fail(config: dict[str, Any]) -> None:
    _life(config)
    raise ZeroDivisionError("nothing to divide by")


def die_once(config: dict[str, Any]) -> None:
    if _life(config) == 1 and dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    _sum_of_ranks(config)


def lose_the_controller_once(config: dict[str, Any]) -> None:
    if _life(config) == 1:
        dist.barrier()
        if dist.get_rank() == 0:
            processes = psutil.Process(os.getppid()).children()
            (controller,) = (each for each in processes if each.cmdline()[0].startswith("ray::TrainController"))
            controller.kill()
        time.sleep(300)
    _sum_of_ranks(config)
