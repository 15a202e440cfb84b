"""A file of tables whose runs are finished by hand, so that it is laid out without any network but the scorers'."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.small_runs import small_run
from vp_ray.records import BASE, PREFERENCES, PROMPTS, SCORES, TUNED
from vp_ray.storage import Manifest, RunFolder
from vp_ray.tables.config import TablesSettings

JOB: dict[str, Any] = {
    "judge": {"noise": 0.5},
    "prompts": {"sources": [{"kind": "shapeworld", "counts": {"train": 8, "held_out": 4}}]},
    "generate": {"generators": [{"name": "weak", "source": "embedded:weak", "guidance_scale": 1}]},
    "annotate": {"annotators": [{"name": "judge", "model": "shapeworld-judge", "base_url": "embedded"}]},
    "preferences": {},
    "reward": {"epochs": 1},
    "rl": {"generator": "embedded:weak"},
    "evaluate": {"base": {"name": "weak", "source": "embedded:weak", "guidance_scale": 1}},
}


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., TablesSettings]:
    """Two seeds of a base run and two methods that branch from it."""

    def make(**changes: Any) -> TablesSettings:
        values = {
            "folder": str(tmp_path / "tables"),
            "seeds": [0, 1],
            "seeded": ["prompts.sources.0.seed", "reward.seed", "rl.seed"],
            "job": JOB,
            "runs": {
                "base": {"until": "preferences"},
                "ddpo": {"of": "base", "first": "reward", "set": {"rl.epochs": 3}},
                "dpo": {"of": "ddpo", "first": "rl", "set": {"rl.algorithm": "dpo"}},
            },
            "wins": [{"title": "Wins", "methods": {"DDPO": "ddpo", "DPO": "dpo"}, "splits": {"held out": "held_out"}}],
        }
        return TablesSettings.load(values | changes)

    return make


def judged_run(place: Path, better: Callable[[int], float]) -> RunFolder:
    """A run of `small_run`'s pictures with preferences overall: the earlier image of a prompt is better as `better`."""
    run = small_run(place, 6)
    rows = run.stage("generate").read_table("images").to_pylist()
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        by_prompt.setdefault(row["prompt_id"], []).append(row)
    pairs = [
        {
            "preference_id": f"{prompt}{a}{b}",
            "prompt_id": prompt,
            "prompt": images[0]["prompt"],
            "aspect": "overall",
            "image_id_a": images[a]["image_id"],
            "image_id_b": images[b]["image_id"],
            "probability_a": better(number),
            "margin": 1.0,
            "weight": 1.0,
            "same_generator": (b - a) % 2 == 0,
            "split": "held_out",
            "source": "annotated",
        }
        for number, (prompt, images) in enumerate(sorted(by_prompt.items()))
        for a in range(len(images))
        for b in range(a + 1, len(images))
    ]
    run.stage("preferences").write_table("preferences.parquet", pa.Table.from_pylist(pairs, schema=PREFERENCES))
    run.stage("preferences").finish(Manifest("preferences", {}, {}, {"preferences": len(pairs)}, 0.0))
    return run


def evaluated_run(run: RunFolder, prompts: dict[str, tuple[float, float]], split: str = "held_out") -> None:
    """Finishes the prompts and the evaluation of a run: by prompt the scores of base and tuned."""
    about = {"prompt_raw": "", "source": "test", "category": "", "split": split, "flags": []}
    rows = [{"prompt_id": name, "prompt": name} | about for name in prompts]
    run.stage("prompts").write_table("prompts.parquet", pa.Table.from_pylist(rows, schema=PROMPTS))
    write_scores(run, prompts)
    for stage in ("prompts", "evaluate"):
        run.stage(stage).finish(Manifest(stage, {}, {}, {}, 0.0))


def write_scores(run: RunFolder, prompts: dict[str, tuple[float, float]]) -> None:
    """What `oracle` gave overall, by prompt to base and tuned."""
    scores = [
        {"image_id": f"{name}{side}", "prompt_id": name, "seed": 0, "generator": side, "scorer": "oracle",
         "aspect": "overall", "score": value}
        for name, both in prompts.items()
        for side, value in zip((BASE, TUNED), both, strict=True)
    ]  # fmt: skip
    run.stage("evaluate").write_table("scores.parquet", pa.Table.from_pylist(scores, schema=SCORES))
