"""Wires the rl stage: Ray Train workers with DeepSpeed, rewards from the Serve application, the adapter at the end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch

from vp_ray.distributed.collectives import TorchCollective
from vp_ray.distributed.engines import DeepSpeedEngine
from vp_ray.distributed.gauges import Gauges
from vp_ray.distributed.rewards import ServeRewards
from vp_ray.distributed.train import device_of_rank, preemption_noticed, run_workers
from vp_ray.models.image_features import ImageFeatures
from vp_ray.models.personal import PersonalScore
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.models.reward import VPScore
from vp_ray.models.reward_config import VPScoreConfig
from vp_ray.models.rewards import BackgroundRewards
from vp_ray.models.scorers import load_scorer
from vp_ray.protocols import RewardSource
from vp_ray.rl import personal
from vp_ray.rl.config import USER, RlSettings
from vp_ray.rl.evaluation import HeldOut
from vp_ray.rl.figures import FIGURES, METRICS
from vp_ray.rl.loop import train
from vp_ray.rl.plan import hold_back, micro_batches_per_update
from vp_ray.rl.sources import joined, rewarding
from vp_ray.rl.trackers import Tracker, trackers_of
from vp_ray.storage import RunFolder, StageOutcome
from vp_ray.telemetry import JsonLines, progress


def run(settings: RlSettings, run: RunFolder, app_name: str) -> StageOutcome:
    """Fine-tunes the generator against the reward service `app_name` and writes `rl/adapter`, with curves in
    `rl/metrics.jsonl` and images of fixed seeds in `rl/grids`."""
    folder = run.stage("rl")
    checkpoint = run.stage("reward") / "checkpoint"
    aspects = VPScoreConfig.from_json(checkpoint.read_json("config.json"), checkpoint.uri).aspects
    if not settings.scorers and settings.personal is None:
        rewarding(settings, {"": aspects})
    taste = personal.learn(settings.personal, run, settings.seed) if settings.personal is not None else None
    prompts, held_out = hold_back(_prompts(run), settings)
    with progress("rl", "epochs", settings.epochs) as bar:

        def show() -> None:
            rows = JsonLines(folder, METRICS).rows
            if rows and rows[-1]["epoch"]:
                bar.update(rows[-1]["epoch"], note=f"reward {rows[-1]['reward_mean']:.3f}")

        config = {
            "settings": settings.model_dump(mode="json"),
            "run": run.uri,
            "app_name": app_name,
            "aspects": list(aspects),
        }
        run_workers(_rank, config, settings.workers, "rl", folder.uri, show)
    figures: dict[str, Any] = folder.read_json(FIGURES)
    if taste is not None:
        figures["personal"] = taste
    return StageOutcome(
        rows={"images": figures["images"], "prompts": len(prompts), "held_out_prompts": len(held_out)}, figures=figures
    )


def _prompts(run: RunFolder) -> list[str]:
    rows = run.stage("prompts").read_table("prompts.parquet", ["prompt", "split"]).to_pylist()
    return [row["prompt"] for row in rows if row["split"] == "train"]


def _rank(config: dict[str, Any]) -> None:
    """One worker: the whole policy on every rank, a share of each update's batches on this one."""
    settings = RlSettings.model_validate(config["settings"])
    run = RunFolder(config["run"])
    device = device_of_rank(settings.workers)
    policy = DiffusionPolicy.from_pretrained(
        settings.generator, settings.lora, settings.dtype, settings.seed, "cuda" if device.type == "cuda" else "cpu"
    )
    if settings.gradient_checkpointing:
        policy.unet.enable_gradient_checkpointing()
    collective = TorchCollective(device)
    engine = DeepSpeedEngine(
        policy.unet,
        settings.optimizer,
        micro_batches_per_update(settings, policy.steps(settings.steps, settings.eta), collective.world_size),
        zero_stage=settings.workers.zero_stage,
        device=device,
    )
    rewards, watching = joined(settings, _sources(settings, run, config["app_name"], config["aspects"], device))
    prompts, held_out = hold_back(_prompts(run), settings)
    folder = run.stage("rl")
    with ExitStack() as stack:
        trackers: list[Tracker] = []
        if collective.rank == 0:
            trackers = [Gauges("rl", _name(run)), *trackers_of(settings, folder)]
            for tracker in trackers:
                stack.callback(tracker.close)
        train(
            settings,
            policy,
            engine,
            rewards=rewards,
            held_out=HeldOut(held_out, watching, _encoder(settings, run, device)) if held_out else None,
            collective=collective,
            prompts=prompts,
            folder=folder,
            trackers=trackers,
            interrupted=preemption_noticed,
        )


def _name(run: RunFolder) -> str:
    return run.uri.rsplit("/", 1)[-1]


def _encoder(settings: RlSettings, run: RunFolder, device: torch.device) -> ImageFeatures | None:
    """The vision network of the run's VP-Score, where diversity is guarded."""
    if not settings.diversity_floor:
        return None
    return ImageFeatures(VPScore.from_pretrained((run.stage("reward") / "checkpoint").uri), device)


def _sources(
    settings: RlSettings, run: RunFolder, app_name: str, aspects: Sequence[str], device: torch.device
) -> dict[str, RewardSource]:
    """The run's own VP-Score under the empty name, the scorers beside it, and the user's taste."""
    limits = (settings.reward_timeout_seconds, settings.reward_attempts)
    sources: dict[str, RewardSource] = {"": ServeRewards(app_name, aspects, *limits)}
    for name, one in settings.scorers.items():
        if one.app is not None:
            sources[name] = ServeRewards(one.app, None, *limits)
        elif one.source is not None:
            sources[name] = BackgroundRewards(load_scorer(one.source, str(device)))
    if settings.personal is not None:
        shared = VPScore.from_pretrained((run.stage("reward") / "checkpoint").uri)
        taste = PersonalScore.from_pretrained(run.stage("rl") / personal.FOLDER, settings.personal.user, shared)
        sources[USER] = BackgroundRewards(taste.to(device))
    return sources
