"""The scripts that want a GPU, at a tiny size without one, so that they work on the day when there is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def output_of(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "benchmarks" / "gpu" / arguments[0]
    return subprocess.run(
        [sys.executable, str(script), *arguments[1:]], capture_output=True, text=True, timeout=300, check=False
    )


def test_generation_runs_every_architecture() -> None:
    done = output_of("generation.py", "--tiny", "--steps", "2", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    names = {figure["name"] for figure in figures}
    for architecture in ("sd15", "sdxl", "sd3"):
        assert {f"generation_{architecture}_images_per_second", f"generation_{architecture}_over_diffusers"} <= names
    assert all(figure["value"] > 0 for figure in figures)


def test_reinforcement_learning_runs_every_architecture_and_variant() -> None:
    variants = ["ddpo", "ddpo_half_of_the_steps", "ddpo_checkpointing"]  # compiled ones take a minute here
    done = output_of("rl.py", "--tiny", "--steps", "2", "--epochs", "1", "--variants", "plain", *variants)
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert {figure["name"] for figure in figures} >= {
        f"rl_{architecture}_ddpo{variant}_images_per_gpu_hour"
        for architecture in ("sd15", "sdxl")
        for variant in ("", "_half_of_the_steps", "_checkpointing")
    } | {"rl_sd15_plain_images_per_gpu_hour", "rl_sd15_ddpo_over_plain"}
    for figure in figures:
        if figure["unit"] == "ratio":
            continue
        shares = [figure[f"{part}_share"] for part in ("sampling", "reward_wait", "update")]
        assert sum(shares) == pytest.approx(1, abs=1e-3)


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    done = output_of("generation.py")
    assert done.returncode == 1
    assert "There is no NVIDIA GPU here" in done.stderr


def test_reward_trains_and_scores_beside_its_baselines() -> None:
    done = output_of("reward.py", "--tiny", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    figures = {figure["name"]: figure for figure in map(json.loads, done.stdout.splitlines())}
    assert {"reward_gpu_training", "reward_gpu_training_first_epoch", "reward_gpu_scoring_4"} <= figures.keys()
    assert all(figure["value"] > 0 for figure in figures.values())
    assert figures["reward_gpu_training_first_epoch"]["rounds"] == 6
