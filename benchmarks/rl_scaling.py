"""Speed-up over linear of an RL step: two real ranks on two cores, then 8 and 32 ranks on simulated devices.

A simulated device is a denoising network that sleeps for the time that a real one takes, so that what is measured is
all the rest of the loop: planning, gathering, gradients over gloo, the wait for the slowest. Each rank has the same
number of images, whatever their number.
"""

import json
import multiprocessing as mp
import os
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from ddpo_epoch import ROUNDS, Local, Ours
from runs import print_figure
from vp_ray.distributed.collectives import TorchCollective
from vp_ray.distributed.engines import DeepSpeedEngine
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.models.rewards import BackgroundRewards
from vp_ray.protocols import Pixels, Scores
from vp_ray.rl.config import RlSettings
from vp_ray.rl.loop import train
from vp_ray.rl.plan import micro_batches_per_update
from vp_ray.rl.policies import training_steps
from vp_ray.shapeworld import architectures
from vp_ray.storage import Folder

FORWARD_SECONDS = 0.25
BATCHES_OF_A_RANK = 4
BATCH = 4
EPOCHS = 3
SIDE = 8


class Brightness:
    aspects = ("brightness",)

    def score(self, images: Pixels, prompts: Any) -> Scores:
        """A reward without cost."""
        mean: Scores = images.reshape(len(images), -1).mean(axis=1, keepdims=True).astype("float32")
        return mean


class Device(UNet2DConditionModel):
    """Sleeps as long as a forward pass takes, and twice more where a backward pass follows."""

    def forward(self, *arguments: Any, **options: Any) -> Any:
        time.sleep(FORWARD_SECONDS * (3 if torch.is_grad_enabled() else 1))
        return super().forward(*arguments, **options)


def pipeline(folder: Path) -> Any:
    """A pipeline of hardly any work beside its device's."""
    tokenizer = architectures.write_clip_tokenizer(folder)
    device = Device(
        sample_size=SIDE,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        mid_block_type=None,
        block_out_channels=(8,),
        layers_per_block=1,
        cross_attention_dim=64,
        norm_num_groups=4,
    )
    return StableDiffusionPipeline(
        vae=architectures.new_vae(),
        text_encoder=architectures.new_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=device,
        scheduler=DDIMScheduler(clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def settings_of(ranks: int) -> RlSettings:
    return RlSettings.load(
        {
            "generator": "simulated",
            "lora": {"rank": 4, "alpha": 4, "layers": ["conv_out"]},
            "reward_weights": {"brightness": 1.0},
            "epochs": EPOCHS,
            "prompts_per_epoch": ranks,
            "samples_per_prompt": BATCHES_OF_A_RANK * BATCH,
            "batch_size": BATCH,
            "updates_per_epoch": 2,
            "steps": 4,
            "kl_coefficient": 0.0,
            "held_out_prompts": 0,
            "keep": "last",
            "checkpoint_every": 1000,
            "workers": {"num_workers": ranks},
        }
    )


def rank_of(rank: int, ranks: int, port: int, pipe: Any, folder: str) -> None:
    """One rank with a device of its own."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), DS_ACCELERATOR="cpu")
    torch.distributed.init_process_group("gloo", rank=rank, world_size=ranks)
    settings = settings_of(ranks)
    policy = DiffusionPolicy(pipe, settings.lora)
    count = micro_batches_per_update(settings, training_steps(settings, policy), ranks)
    train(
        settings,
        policy,
        DeepSpeedEngine(policy.denoiser, settings.optimizer, count),
        rewards=BackgroundRewards(Brightness()),
        held_out=None,
        collective=TorchCollective(),
        prompts=[f"{number} red circles" for number in range(ranks)],
        folder=Folder.at(folder),
    )
    torch.distributed.destroy_process_group()


def simulated_epoch(ranks: int, pipe: Any) -> float:
    """Seconds of an epoch, the median after the first."""
    # Forked: 32 ranks share the memory of what they have imported.
    context = mp.get_context("fork")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="vp-scaling-") as folder:
        processes = [context.Process(target=rank_of, args=(rank, ranks, port, pipe, folder)) for rank in range(ranks)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert all(process.exitcode == 0 for process in processes)
        rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()][2:]
    return statistics.median(
        row["seconds_sampling"] + row["seconds_reward_wait"] + row["seconds_update"] for row in rows
    )


def main() -> None:
    torch.set_num_threads(1)
    os.environ["DS_ACCELERATOR"] = "cpu"
    with tempfile.TemporaryDirectory() as folder:
        pipe = pipeline(Path(folder))
    seconds = {ranks: simulated_epoch(ranks, pipe) for ranks in (1, 8, 32)}
    for ranks in (8, 32):
        print_figure(
            f"rl_scaling_{ranks}", seconds[1] / seconds[ranks], "ratio",
            f"{ranks} times one rank, simulated devices on {os.cpu_count()} cores",
            epoch_seconds=seconds[ranks], one_rank_seconds=seconds[1], load=round(os.getloadavg()[0], 1),
        )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="vp-scaling-") as folder:
        systems = {ranks: Ours(ranks, Path(folder) / str(ranks), None) for ranks in (1, 2)}
        for _ in range(1 + ROUNDS):
            for system in systems.values():
                system.epoch()
        times = {ranks: system.finish()[0][1:] for ranks, system in systems.items()}
    ratio = statistics.median(one.total / (2 * two.total) for one, two in zip(times[1], times[2], strict=True))
    print_figure(
        "rl_scaling_2", ratio, "ratio", f"twice one rank, {os.cpu_count()} cores, scorer {Local.__name__.lower()}",
        load=round(os.getloadavg()[0], 1),
    )  # fmt: skip


if __name__ == "__main__":
    main()
