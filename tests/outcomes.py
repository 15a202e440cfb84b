"""What a run of the whole loop made, so that a disturbed one can be compared with an undisturbed one, bit by bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.small_runs import bits_of
from vp_ray.storage import RunFolder

VP_SCORE = "reward/checkpoint/model.safetensors"
ADAPTER = "rl/adapter/pytorch_lora_weights.safetensors"


def outcome_of(run: RunFolder) -> dict[str, Any]:
    """All that faults must not change, by name: rows of every table, curves without times, bits of weights."""
    judgements = run.stage("annotate").read_table("judgements.parquet").to_pylist()
    made = {
        "prompts": run.stage("prompts").read_table("prompts.parquet").to_pylist(),
        "images": (run.stage("generate") / "images").read_table(".").sort_by("image_id").to_pylist(),
        "judgements": [(row["judgement_id"], row["order"], row["status"], row["levels"]) for row in judgements],
        "ratings": run.stage("annotate").read_table("ratings.parquet").to_pylist(),
        "preferences": run.stage("preferences").read_table("preferences.parquet").to_pylist(),
        "comparison": run.stage("evaluate").read_table("comparison.parquet").to_pylist(),
        "scores": _scores(run),
        "VP-Score": bits_of(run.local_path / VP_SCORE),
        "adapter": bits_of(run.local_path / ADAPTER),
    }
    return {**made, **{f"curve of {stage}": curve_of(run, stage) for stage in ("reward", "rl")}}


def _scores(run: RunFolder) -> list[dict[str, Any]]:
    """Scores without the ids of the images, which name the settings of all stages before, addresses included."""
    columns = ["prompt_id", "seed", "generator", "scorer", "aspect", "score"]
    rows = run.stage("evaluate").read_table("scores.parquet", columns).to_pylist()
    return sorted(rows, key=lambda row: [row[name] for name in columns])


def curve_of(run: RunFolder, stage: str) -> list[dict[str, Any]]:
    """The rows of a training's metrics without what they took."""
    rows = map(json.loads, run.stage(stage).read_bytes("metrics.jsonl").splitlines())
    return [{key: value for key, value in row.items() if not key.startswith("seconds")} for row in rows]


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The names of what differs between two outcomes."""
    return [name for name in one if one[name] != other[name]]


def repeated_rows(run: RunFolder) -> list[str]:
    """Tables in which a row stands twice, by the ids that must be there once."""
    keys = {
        "prompts": (run.stage("prompts").read_table("prompts.parquet"), ("prompt_id",)),
        "images": ((run.stage("generate") / "images").read_table(".", ["image_id"]), ("image_id",)),
        "judgements": (run.stage("annotate").read_table("judgements.parquet"), ("judgement_id",)),
        "ratings": (run.stage("annotate").read_table("ratings.parquet"), ("image_id", "aspect")),
        "preferences": (run.stage("preferences").read_table("preferences.parquet"), ("preference_id",)),
        "drawn to compare": ((run.stage("evaluate") / "images").read_table(".", ["image_id"]), ("image_id",)),
        "judged to compare": (run.stage("evaluate").read_table("judgements.parquet"), ("judgement_id",)),
        "scores": (run.stage("evaluate").read_table("scores.parquet"), ("image_id", "scorer", "aspect")),
    }
    return [
        name
        for name, (table, columns) in keys.items()
        if len(set(zip(*(table[column].to_pylist() for column in columns), strict=True))) != table.num_rows
    ]
