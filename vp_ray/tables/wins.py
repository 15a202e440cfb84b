"""Tables of tuned models: how often each wins against the others, and against the model before tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import permutations
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from vp_ray.errors import InputError
from vp_ray.maths.intervals import Interval, clustered_mean, win_counts
from vp_ray.maths.multiple import holm
from vp_ray.maths.seeds import over_seeds
from vp_ray.records import BASE, OVERALL, TUNED
from vp_ray.storage import RunFolder
from vp_ray.tables.config import ConditionTableSettings, TablesSettings, WinTableSettings
from vp_ray.tables.runs import run_folder

AS_IN_TRAINING: Final = "as evaluated"
"""The row of the evaluation's own way of drawing."""

Means = dict[str, float]
"""By prompt the mean score of a model's images."""


def win_table(settings: TablesSettings, table: WinTableSettings, seeds: Sequence[int]) -> dict[str, Any]:
    """The title, and a row for each method and set of prompts.

    `wins` counts prompts won against each other method, summed over them and the seeds, of `comparisons`; `rate` is the
    share of prompts won against the base, ties as halves, and `gain` the mean difference to it, both with intervals
    over the seeds; `p_adjusted` is the sign test against the base over all seeds' prompts after Holm's correction for
    the whole table.
    """
    rows: list[dict[str, Any]] = []
    for column, split in table.splits.items():
        by_seed = {seed: _means(settings, table, seed, split) for seed in seeds}
        rows += [_row(table, by_seed, name, column) for name in (table.base, *table.methods)]
    tested = [row for row in rows if row["p_value"] is not None]
    for row, adjusted in zip(tested, holm([row["p_value"] for row in tested]), strict=True):
        row["p_adjusted"] = float(adjusted)
    told = {"kind": "wins", "scorer": table.scorer, "aspect": table.aspect, "seeds": list(seeds), "base": table.base}
    return {"title": table.title, **told, "rows": rows}


def _means(settings: TablesSettings, table: WinTableSettings, seed: int, split: str) -> dict[str, Means]:
    """By method, the base first, the means of the prompts that all of them drew."""
    found: dict[str, Means] = {}
    for name, run in table.methods.items():
        folder = run_folder(settings, seed, run)
        sides = model_means(folder, table.scorer, table.aspect, split)
        # All methods' runs draw the same base from the same seeds; the first one's stands for it.
        found.setdefault(table.base, sides[BASE])
        found[name] = sides[TUNED]
    common = set.intersection(*(set(means) for means in found.values()))
    if not common:
        raise InputError(
            f"no prompt of the split '{split}' was drawn by all methods of '{table.title}'",
            "Look at evaluate.splits and evaluate.prompts of their runs.",
            settings.folder,
        )
    return {name: {prompt: means[prompt] for prompt in sorted(common)} for name, means in found.items()}


def condition_table(settings: TablesSettings, table: ConditionTableSettings, seeds: Sequence[int]) -> dict[str, Any]:
    """The title, and a row for each way of drawing and method: the overall gain over the base, over the seeds."""
    rows: list[dict[str, Any]] = []
    for column, run in table.methods.items():
        gains: dict[str, dict[int, Interval]] = {}
        for seed in seeds:
            stage = run_folder(settings, seed, run).stage("evaluate")
            figures = stage.finished().figures
            main = [row | {"condition": AS_IN_TRAINING} for row in figures["comparison"] if row["aspect"] == OVERALL]
            found = [row for row in (*main, *figures["conditions"]) if row["scorer"] == table.scorer]
            if len(found) < 2:
                raise InputError(f"'{table.scorer}' scored no condition", "Set evaluate.judge_conditions.", stage.uri)
            for row in found:
                gain = Interval(row["gain"], row["low"], row["high"])
                gains.setdefault(row["condition"], {})[seed] = gain
        rows += [
            {"condition": name, "method": column, "gain": asdict(over_seeds(list(by_seed.values())))}
            | {"by_seed": {str(seed): gain.mean for seed, gain in by_seed.items()}}
            for name, by_seed in gains.items()
        ]
    return {"title": table.title, "kind": "conditions", "scorer": table.scorer, "seeds": list(seeds), "rows": rows}


def model_means(run: RunFolder, scorer: str, aspect: str, split: str) -> dict[str, Means]:
    """Of the base and the tuned model of a finished evaluation; raises `InputError` where nobody scored so."""
    stage = run.stage("evaluate")
    stage.finished()
    scores = stage.read_table("scores.parquet")
    chosen = scores.filter(pc.and_(pc.equal(scores["scorer"], scorer), pc.equal(scores["aspect"], aspect)))
    if not chosen.num_rows:
        known = ", ".join(sorted(set(scores["scorer"].to_pylist())))
        raise InputError(f"'{scorer}' gave no scores of '{aspect}'", f"Choose of: {known}.", stage.uri)
    prompts = run.source("prompts").read_table("prompts.parquet", ["prompt_id", "split"])
    wanted = set(prompts.filter(pc.equal(prompts["split"], split))["prompt_id"].to_pylist())
    means = chosen.group_by(["generator", "prompt_id"]).aggregate([("score", "mean")])
    found: dict[str, Means] = {BASE: {}, TUNED: {}}
    for row in means.to_pylist():
        if row["prompt_id"] in wanted:
            found[row["generator"]][row["prompt_id"]] = row["score_mean"]
    return found


def _row(table: WinTableSettings, by_seed: Mapping[int, Mapping[str, Means]], name: str, column: str) -> dict[str, Any]:
    wins = comparisons = 0
    for models in by_seed.values():
        for one, other in permutations(models, 2):
            if one == name:
                counts = win_counts(_difference(models[one], models[other]))
                wins, comparisons = wins + counts.wins, comparisons + len(models[one])
    row: dict[str, Any] = {"method": name, "prompt_set": column, "wins": wins, "comparisons": comparisons}
    row |= {"rate": None, "gain": None, "p_value": None, "p_adjusted": None, "by_seed": {}}
    row["prompts"] = sum(len(models[name]) for models in by_seed.values())
    if name == table.base:
        return row
    gains = {seed: _difference(models[name], models[table.base]) for seed, models in by_seed.items()}
    prompts = {seed: list(models[name]) for seed, models in by_seed.items()}
    rates = [clustered_mean(_won(gain), prompts[seed]) for seed, gain in gains.items()]
    means = [clustered_mean(gain, prompts[seed]) for seed, gain in gains.items()]
    row |= {"rate": asdict(over_seeds(rates)), "gain": asdict(over_seeds(means))}
    row["p_value"] = win_counts(np.concatenate(list(gains.values()))).p_value
    row["by_seed"] = {str(seed): interval.mean for seed, interval in zip(gains, rates, strict=True)}
    return row


def _difference(one: Means, other: Means) -> NDArray[np.float64]:
    return np.array([one[prompt] - other[prompt] for prompt in one], np.float64)


def _won(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for a prompt won, 0 for one lost, a half for a tie."""
    return (1 + np.sign(np.where(np.abs(difference) < 1e-9, 0, difference))) / 2
