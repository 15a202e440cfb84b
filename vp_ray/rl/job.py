"""Wires the rl stage: Ray Train workers with DeepSpeed, rewards from the Serve application, the adapter at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch

from vp_ray.distributed.collectives import TorchCollective
from vp_ray.distributed.engines import DeepSpeedEngine
from vp_ray.distributed.gauges import Gauges
from vp_ray.distributed.rewards import ServeRewards
from vp_ray.distributed.train import device_of_rank, preemption_noticed, run_workers
from vp_ray.errors import SettingsError
from vp_ray.models.image_features import ImageFeatures
from vp_ray.models.personal import PersonalScore
from vp_ray.models.picture_scorer import PictureScorer
from vp_ray.models.reward import VPScore
from vp_ray.models.reward_config import VPScoreConfig
from vp_ray.models.rewards import BackgroundRewards, JoinedRewards
from vp_ray.models.scorers import load_scorer
from vp_ray.protocols import RewardSource
from vp_ray.rl import personal
from vp_ray.rl.config import USER, RlSettings
from vp_ray.rl.direct import train_directly
from vp_ray.rl.evaluation import HeldOut
from vp_ray.rl.figures import FIGURES, METRICS
from vp_ray.rl.journal import Journal
from vp_ray.rl.loop import train
from vp_ray.rl.pairs import preference_batches, read_pairs
from vp_ray.rl.plan import hold_back, micro_batches_per_update
from vp_ray.rl.policies import load_policy, training_steps
from vp_ray.rl.reward_gradient import RewardGradient, prompt_batches
from vp_ray.rl.sources import joined, rewarding
from vp_ray.rl.trackers import Tracker, trackers_of
from vp_ray.storage import RunFolder, StageOutcome
from vp_ray.telemetry import JsonLines, progress


def run(settings: RlSettings, run: RunFolder, app_name: str | None) -> StageOutcome:
    """Fine-tunes the generator against the reward service `app_name`, or on the run's preferences, and writes
    `rl/adapter`, with curves in `rl/metrics.jsonl` and images of fixed seeds in `rl/grids`.

    Algorithms that need no service take None, and score held-out images with the run's VP-Score where there is one.
    """
    folder = run.stage("rl")
    aspects = _own_aspects(run)
    if not settings.scorers and settings.personal is None and settings.algorithm != "dpo":
        rewarding(settings, {"": aspects})
    if settings.held_out_prompts and not aspects and not settings.scorers:
        raise SettingsError(
            "nothing scores the held-out prompts",
            "Train VP-Score in this run, add rl.scorers, or set rl.held_out_prompts to 0 and rl.keep to 'last'.",
            "rl",
        )
    if settings.held_out_prompts and settings.diversity_floor and not aspects:
        raise SettingsError(
            "diversity is seen by the run's own VP-Score, which is not there", "Set it to 0.", "rl.diversity_floor"
        )
    taste = personal.learn(settings.personal, run, settings.seed) if settings.personal is not None else None
    prompts, held_out = hold_back(_prompts(settings, run), settings)
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


def _own_aspects(run: RunFolder) -> tuple[str, ...]:
    """The aspects of the run's VP-Score; none where there is no VP-Score."""
    checkpoint = run.stage("reward") / "checkpoint"
    if not checkpoint.exists("config.json"):
        return ()
    return VPScoreConfig.from_json(checkpoint.read_json("config.json"), checkpoint.uri).aspects


def _prompts(settings: RlSettings, run: RunFolder) -> list[str]:
    """The training prompts of the run; for `dpo` those of its preferences."""
    if settings.algorithm == "dpo":
        return list(dict.fromkeys(read_pairs(run, settings.reward_weights).prompts))
    rows = run.stage("prompts").read_table("prompts.parquet", ["prompt", "split"]).to_pylist()
    return [row["prompt"] for row in rows if row["split"] == "train"]


def _rank(config: dict[str, Any]) -> None:
    """One worker: the whole policy on every rank, a share of each update's batches on this one."""
    settings = RlSettings.model_validate(config["settings"])
    run = RunFolder(config["run"])
    device = device_of_rank(settings.workers)
    policy = load_policy(settings, "cuda" if device.type == "cuda" else "cpu")
    collective = TorchCollective(device)
    engine = DeepSpeedEngine(
        policy.denoiser,
        settings.optimizer,
        micro_batches_per_update(settings, training_steps(settings, policy), collective.world_size),
        zero_stage=settings.workers.zero_stage,
        device=device,
    )
    sources = _sources(settings, run, config["app_name"], config["aspects"], device)
    prompts, held_out = hold_back(_prompts(settings, run), settings)
    folder = run.stage("rl")
    with ExitStack() as stack:
        trackers: list[Tracker] = []
        if collective.rank == 0:
            trackers = [Gauges("rl", run.name), *trackers_of(settings, folder)]
            for tracker in trackers:
                stack.callback(tracker.close)
        watching = HeldOut(held_out, JoinedRewards(sources), _encoder(settings, run, device)) if held_out else None
        common: dict[str, Any] = {
            "held_out": watching,
            "collective": collective,
            "folder": folder,
            "trackers": trackers,
            "interrupted": preemption_noticed,
        }
        if settings.asks_the_service:
            rewards, _ = joined(settings, sources)
            train(settings, policy, engine, rewards=rewards, prompts=prompts, **common)
            return
        journal = Journal(settings, policy, engine, **common)
        micro_batches: Callable[[int, int, int], Iterable[object]]
        if settings.algorithm == "dpo":
            pairs = read_pairs(run, settings.reward_weights).without(set(held_out))
            micro_batches = partial(preference_batches, settings, policy, pairs, collective)
        else:
            reward = RewardGradient(settings, _scorers(settings, run, device))
            micro_batches = partial(prompt_batches, settings, policy, prompts, reward, collective)
        train_directly(settings, policy, engine, micro_batches=micro_batches, journal=journal, collective=collective)


def _encoder(settings: RlSettings, run: RunFolder, device: torch.device) -> ImageFeatures | None:
    """The vision network of the run's VP-Score, where diversity is guarded."""
    if not settings.diversity_floor:
        return None
    return ImageFeatures(VPScore.from_pretrained((run.stage("reward") / "checkpoint").uri), device)


def _scorers(settings: RlSettings, run: RunFolder, device: torch.device) -> dict[str, PictureScorer]:
    """The scorers that a worker loads itself: the run's own VP-Score under the empty name where no service has it,
    those with a source, and the user's taste."""
    places = {name: one.source for name, one in settings.scorers.items() if one.source is not None}
    checkpoint = run.stage("reward") / "checkpoint"
    if not settings.asks_the_service and checkpoint.exists("config.json"):
        places = {"": checkpoint.uri, **places}
    found = {name: load_scorer(place, str(device)) for name, place in places.items()}
    if settings.personal is not None:
        shared = VPScore.from_pretrained(checkpoint.uri)
        found[USER] = PersonalScore.from_pretrained(run.stage("rl") / personal.FOLDER, settings.personal.user, shared)
    return {name: scorer.to(device) for name, scorer in found.items()}


def _sources(
    settings: RlSettings, run: RunFolder, app_name: str | None, aspects: Sequence[str], device: torch.device
) -> dict[str, RewardSource]:
    """The run's own VP-Score under the empty name, the scorers beside it, and the user's taste."""
    limits = (settings.reward_timeout_seconds, settings.reward_attempts)
    sources: dict[str, RewardSource] = {}
    if app_name is not None:
        sources[""] = ServeRewards(app_name, aspects, *limits)
    for name, one in settings.scorers.items():
        if one.app is not None:
            sources[name] = ServeRewards(one.app, None, *limits)
    for name, scorer in _scorers(settings, run, device).items():
        sources[name] = BackgroundRewards(scorer)
    return sources
