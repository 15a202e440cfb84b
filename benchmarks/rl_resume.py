"""Largest difference between the weights of a training that was killed (kill -9) and resumed, and of another."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from runs import print_figure
from vp_ray.checkpoints import newest_checkpoint
from vp_ray.distributed.collectives import SingleProcess
from vp_ray.distributed.engines import TorchEngine
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.models.reward import VPScore
from vp_ray.models.rewards import BackgroundRewards
from vp_ray.rl.config import RlSettings
from vp_ray.rl.evaluation import HeldOut
from vp_ray.rl.loop import train
from vp_ray.rl.plan import hold_back, micro_batches_per_update
from vp_ray.shapeworld import scenes
from vp_ray.storage import Folder

SETTINGS = RlSettings.load(
    {
        "generator": "embedded:weak",
        "reward_weights": {"fidelity": 1.0, "aesthetic": 0.5},
        "constraints": {"harmlessness": {"at_least": 0.5}},
        "advantage_mixing": "advantage",
        "statistics_window": 32,
        "epochs": 6,
        "prompts_per_epoch": 4,
        "samples_per_prompt": 8,
        "batch_size": 16,
        "updates_per_epoch": 2,
        "inner_epochs": 2,
        "steps": 5,
        "held_out_prompts": 8,
        "evaluate_every": 2,
        "early_stop_patience": 0,
        "checkpoint_every": 1,
        "keep": "last",
    }
)
KILLED_AFTER = ("epoch_002", "epoch_004")


def run(folder: str) -> None:
    """The training, from where it is."""
    torch.set_num_threads(1)
    policy = DiffusionPolicy.from_pretrained(SETTINGS.generator, SETTINGS.lora, SETTINGS.dtype, SETTINGS.seed, "cpu")
    count = micro_batches_per_update(SETTINGS, policy.steps(SETTINGS.steps, SETTINGS.eta), 1)
    every = sorted(scenes.prompt_of(scene) for scene in scenes.all_scenes())[:256:8]
    prompts, held_out = hold_back(every, SETTINGS)
    rewards = BackgroundRewards(VPScore.from_backbone("embedded:blip"))
    train(
        SETTINGS,
        policy,
        TorchEngine(policy.denoiser, SETTINGS.optimizer, count),
        rewards=rewards,
        held_out=HeldOut(held_out, rewards),
        collective=SingleProcess(),
        prompts=prompts,
        folder=Folder.at(folder),
    )


def started(folder: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen([sys.executable, __file__, str(folder)], env=environment, stdout=sys.stderr)


def _is_complete(folder: Path, name: str) -> bool:
    newest = newest_checkpoint(Folder.at(folder) / "checkpoints")
    return newest is not None and newest.place.uri.endswith(name)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vp-resume-") as folder:
        whole, cut = Path(folder) / "whole", Path(folder) / "cut"
        assert started(whole).wait() == 0
        for name in KILLED_AFTER:
            process = started(cut)
            while not _is_complete(cut, name):
                assert process.poll() is None
                time.sleep(0.02)
            # In the middle of the next epoch.
            time.sleep(0.5)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert started(cut).wait() == 0
        weights = [load_file(place / "adapter" / "pytorch_lora_weights.safetensors") for place in (whole, cut)]
    difference = max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])
    print_figure(
        "rl_resume_max_abs_difference", difference, "weight", "the undisturbed training",
        kills=len(KILLED_AFTER), epochs=SETTINGS.epochs,
    )  # fmt: skip


if __name__ == "__main__":
    run(sys.argv[1]) if len(sys.argv) > 1 else main()
