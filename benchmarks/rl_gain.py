"""Gain on held-out prompts at equal training time: DDPO, Diffusion-DPO and DiffusionNFT, and the plain DDPO loop.

Each method has 15 minutes of one core for each of three seeds, and the plain loop goes on to 30, since the last figure
asks when our best method has what that loop has then; a method that does not have it by 15 gives infinity. All learn
from the noise-free judge's levels, so that algorithms are compared and not rewards; the gain is in the same levels on
prompts that none has seen. Evaluations are not counted as time. Each training has one thread, and its clock is that
thread's core: what else the machine does, or a halt, costs it nothing, and on an idle core it is the wall's. Four core
hours: `--processes M` does M trainings at once, a core each, `--minutes N` takes another time than 15, and
`--curves FOLDER` keeps each training's curve there, so that a measurement that was cut off goes on.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import multiprocessing
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from parts.plain_beside import plain_loop, work_of
from parts.tuning import prompts_of
from runs import print_figure
from vp_ray.distributed.collectives import SingleProcess
from vp_ray.distributed.engines import TorchEngine
from vp_ray.ids import seed_from
from vp_ray.models.policy import DiffusionPolicy, draw_noise
from vp_ray.models.rewards import LocalRewards
from vp_ray.rl.config import RlSettings
from vp_ray.rl.direct import train_directly
from vp_ray.rl.evaluation import HeldOut, evaluate
from vp_ray.rl.journal import Journal
from vp_ray.rl.loop import train
from vp_ray.rl.pairs import PreferencePairs, preference_batches
from vp_ray.rl.plan import micro_batches_per_update
from vp_ray.rl.policies import load_policy, training_steps
from vp_ray.shapeworld.judgement import OracleScorer
from vp_ray.shapeworld.render import arrange, render
from vp_ray.shapeworld.scenes import parse_prompt
from vp_ray.storage import Folder

SEEDS = (0, 1, 2)
STUDENT_95 = 4.303  # two degrees of freedom
IMAGES_OF_A_PAIRING = 4
ALIKE_LEVELS = 0.5
"""Difference of two images' levels at which one is preferred with probability 0.73."""
WEIGHTS = dict.fromkeys(OracleScorer().aspects, 0.25)
COMMON: dict[str, Any] = {
    "generator": "embedded:weak",
    "reward_weights": WEIGHTS,
    "held_out_weights": WEIGHTS,
    "epochs": 1_000_000,
    "batch_size": 64,
    "updates_per_epoch": 2,
    "held_out_prompts": 128,
    "evaluate_every": 4,
    "evaluation_steps": 10,
    "early_stop_patience": 0,
    "diversity_floor": 0.0,
    "keep": "last",
    "checkpoint_every": 1_000_000,
    "lora": {"rank": 8, "alpha": 8},
}
DRAWN = {"prompts_per_epoch": 16, "samples_per_prompt": 16, "steps": 6}
METHODS: dict[str, dict[str, Any]] = {
    "ddpo": {
        **DRAWN,
        "drop_last_steps": 2,
        "advantage_scale": "epoch",
        "kl_coefficient": 0.002,
        "optimizer": {"learning_rate": 1e-3},
    },
    "nft": {**DRAWN, "algorithm": "nft", "timesteps_per_image": 4, "optimizer": {"learning_rate": 1e-3}},
    "dpo": {
        "algorithm": "dpo",
        "timesteps_per_image": 4,
        "dpo": {"beta": 1000.0},
        "optimizer": {"learning_rate": 3e-3},
    },
    "plain": {**DRAWN, "step_weights": "equal", "kl_coefficient": 0.0, "optimizer": {"learning_rate": 3e-3}},
}
Curve = list[tuple[float, float]]
"""(seconds of training, held-out score), ascending."""


class TimeIsUpError(Exception):
    """The method has had its minutes."""


def curve_of(folder: Path, spent_before: float = 0.0) -> Curve:
    """What the metrics say."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    seconds, curve = spent_before, []
    for row in rows:
        seconds += sum(value for name, value in row.items() if name.startswith("seconds_"))
        if row["held_out_score"] is not None:
            curve.append((seconds, row["held_out_score"]))
    return curve


def pairs_of(policy: DiffusionPolicy, prompts: list[str]) -> PreferencePairs:
    """The base's own images of each prompt, judged, every two of them as a pair."""
    files: dict[str, bytes] = {}
    found: list[tuple[str, tuple[str, str], float]] = []
    for prompt in prompts:
        count = IMAGES_OF_A_PAIRING
        noise = draw_noise([seed_from("pairs", prompt, n) for n in range(count)], 0, policy.latent_shape)
        images = policy.decode(policy.sample(policy.embed([prompt] * count), noise, policy.steps(10, 0.0)).final)
        levels = OracleScorer().score(images, [prompt] * count).mean(axis=1)
        for place, image in enumerate(images):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            files[f"{prompt}/{place}"] = buffer.getvalue()
        for a in range(count):
            for b in range(a + 1, count):
                probability = 1 / (1 + math.exp(-(levels[a] - levels[b]) / ALIKE_LEVELS))
                found.append((prompt, (f"{prompt}/{a}", f"{prompt}/{b}"), probability))
    return PreferencePairs(
        files,
        tuple(prompt for prompt, _, _ in found),
        tuple(pair for _, pair, _ in found),
        np.array([probability for *_, probability in found], np.float32),
        np.ones(len(found), np.float32),
    )


def ours(method: str, seed: int, seconds: float, folder: Path) -> Curve:
    """The curve of one of our methods."""
    settings = RlSettings.load({**COMMON, **METHODS[method], "seed": seed})
    policy = load_policy(settings, "cpu")
    count = micro_batches_per_update(settings, training_steps(settings, policy), 1)
    engine = TorchEngine(policy.denoiser, settings.optimizer, count)
    training = prompts_of("train", 256)
    began = time.perf_counter()
    pairs = pairs_of(policy, training) if method == "dpo" else None
    before = time.perf_counter() - began

    def out_of_time() -> bool:
        rows = (folder / "metrics.jsonl").read_text().splitlines()
        spent = sum(value for row in rows for name, value in json.loads(row).items() if name.startswith("seconds_"))
        if before + spent > seconds:
            raise TimeIsUpError
        return False

    common: dict[str, Any] = {
        "held_out": HeldOut(prompts_of("held_out", 128), LocalRewards(OracleScorer())),
        "collective": SingleProcess(),
        "folder": Folder.at(folder),
        "interrupted": out_of_time,
    }
    try:
        if pairs is not None:
            journal = Journal(settings, policy, engine, **common)
            batches = partial(preference_batches, settings, policy, pairs, SingleProcess())
            train_directly(settings, policy, engine, micro_batches=batches, journal=journal, collective=SingleProcess())
        else:
            train(settings, policy, engine, rewards=LocalRewards(OracleScorer()), prompts=training, **common)
    except TimeIsUpError:
        pass
    return curve_of(folder, before)


def plain(seed: int, seconds: float) -> Curve:
    """The curve of the plain loop."""
    settings = RlSettings.load({**COMMON, **METHODS["plain"], "seed": seed})
    policy = load_policy(settings, "cpu")
    steps, checked = policy.steps(settings.steps, settings.eta), policy.steps(10, 0.0)
    loop = plain_loop(policy, settings)
    held_out = HeldOut(prompts_of("held_out", 128), LocalRewards(OracleScorer()))
    training, spent, epoch, curve = prompts_of("train", 256), 0.0, 0, []

    def reward(images: Any, prompts: list[str]) -> Any:
        return OracleScorer().score(images, prompts).mean(axis=1)

    while True:
        if epoch % settings.evaluate_every == 0:
            scores, _ = evaluate(settings, policy, held_out, checked, SingleProcess())
            curve.append((spent, float(scores.mean())))
            if spent > seconds:
                return curve
        work = work_of(policy, settings, steps, training, epoch)
        spent += loop.epoch(work, range(settings.updates_per_epoch), reward).total
        epoch += 1


def score_at(curve: Curve, seconds: float) -> float:
    """The score at that time, between two evaluations by a straight line."""
    times, scores = zip(*curve, strict=True)
    return float(np.interp(seconds, times, scores))


def time_to(curve: Curve, score: float) -> float:
    """Seconds until the score is first reached; infinite where it is not."""
    for (before, low), (after, high) in pairwise(curve):
        if high >= score:
            return before + (after - before) * max(0.0, (score - low) / (high - low) if high > low else 0.0)
    return math.inf


def perfect() -> float:
    """The judge's mean level of perfect renders of the held-out prompts."""
    prompts = prompts_of("held_out", 128)
    rng = np.random.default_rng(0)
    images = np.stack([render(arrange(parse_prompt(prompt), rng)) for prompt in prompts])
    return float(OracleScorer().score(images, prompts).mean())


def measured(method: str, seed: int, minutes: float, kept: Path | None) -> Curve:
    """The curve of one training, on one thread; the plain loop's is twice as long. Read from `kept` if it is there."""
    file = kept / f"{method}-{seed}-{minutes:g}.json" if kept else None
    if file and file.exists():
        return [(seconds, score) for seconds, score in json.loads(file.read_text())]
    torch.set_num_threads(1)
    time.perf_counter = time.process_time  # by which both loops tell their seconds; this process ends with its training
    with tempfile.TemporaryDirectory(prefix="vp-rl-gain-") as folder:
        curve = plain(seed, 120 * minutes) if method == "plain" else ours(method, seed, 60 * minutes, Path(folder))
    print(f"{method} {seed}: {curve}", file=sys.stderr, flush=True)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".part").write_text(json.dumps(curve))
        file.with_suffix(".part").rename(file)
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description="Gain on held-out prompts at equal training time.")
    parser.add_argument("--minutes", type=float, default=15.0, help="training time of each method and seed")
    parser.add_argument("--processes", type=int, default=1, help="trainings at once, a core each")
    parser.add_argument("--curves", type=Path, help="folder that keeps the curves", metavar="FOLDER")
    chosen = parser.parse_args()
    minutes: float = chosen.minutes
    # Spawned, since a process that has run torch's threads must not be forked.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(chosen.processes, mp_context=context, max_tasks_per_child=1) as pool:
        longest_first = sorted(product(METHODS, SEEDS), key=lambda task: task[0] != "plain")
        waiting = {task: pool.submit(measured, *task, minutes, chosen.curves) for task in longest_first}
        curves = {method: [waiting[method, seed].result() for seed in SEEDS] for method in METHODS}
    baseline = f"the model before training, {minutes:g} minutes of training, held-out prompts"
    best_score = perfect()
    halves: dict[str, float] = {}
    for method, found in curves.items():
        gains = [score_at(curve, 60 * minutes) - curve[0][1] for curve in found]
        half = STUDENT_95 * statistics.stdev(gains) / math.sqrt(len(gains))
        halves[method] = statistics.median(time_to(curve, (curve[0][1] + best_score) / 2) for curve in found)
        share = statistics.fmean(gain / (best_score - curve[0][1]) for gain, curve in zip(gains, found, strict=True))
        print_figure(f"rl_gain_{method}", statistics.fmean(gains), "levels", baseline, share_of_the_distance=share)
        print_figure(f"rl_gain_{method}_low", statistics.fmean(gains) - half, "levels", baseline)
    first = min(halves, key=halves.__getitem__)
    reached = None if math.isinf(halves[first]) else halves[first] / 60
    print_figure(
        "rl_gain_half_reached", float(reached is not None), "yes or no", "half of the way to perfect renders",
        first=first if reached is not None else "none", minutes=reached,
    )  # fmt: skip
    ratios = {
        method: statistics.median(
            time_to(curve, score_at(theirs, 120 * minutes)) / (120 * minutes)
            for curve, theirs in zip(curves[method], curves["plain"], strict=True)
        )
        for method in METHODS
        if method != "plain"
    }
    best = min(ratios, key=ratios.__getitem__)
    print_figure(
        "rl_time_to_gain", ratios[best], "ratio", f"{2 * minutes:g} minutes of the plain DDPO loop", method=best
    )


if __name__ == "__main__":
    main()
