"""Wires the evaluate stage: draw with both models, score, have the pairs judged, compare; then so for each condition.

evaluate/{images,vp_scores,scores_of}/      see `one_way`
evaluate/conditions/NAME/                   the same, of a condition
evaluate/ledger/*.jsonl                     every answer of a judge
evaluate/{judgements,scores,comparison}.parquet, conditions.parquet, categories.parquet
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from vp_ray.evaluate.comparison import agreement, compare, compare_groups, pair_up
from vp_ray.evaluate.config import EvaluateSettings
from vp_ray.evaluate.exploitation import exploitation
from vp_ray.evaluate.one_way import Compared, compare_one_way
from vp_ray.evaluate.variety import variety
from vp_ray.judging.costs import costs_by_day
from vp_ray.judging.ledger import spent_usd
from vp_ray.records import COMPARISON, JUDGEMENTS, SCORES
from vp_ray.storage import RunFolder, StageOutcome

_CATEGORY, _CONDITION = (pa.schema([pa.field(name, pa.string()), *COMPARISON]) for name in ("category", "condition"))


def run(settings: EvaluateSettings, run: RunFolder, embedded_url: str | None) -> StageOutcome:
    """Compares the tuned model with its base; every step goes on from the files that are there.

    `embedded_url` is the address of the pipeline's own judge, for judges that name it. Pairs of which an image was not
    made, or that no judge scored, are counted and left out.
    """
    folder = run.stage("evaluate").make()
    ledger = folder / "ledger"
    main = compare_one_way(settings, run, folder, ledger, embedded_url)
    others = {
        name: compare_one_way(settings.condition(name), run, folder / "conditions" / name, ledger, embedded_url)
        for name in settings.conditions
    }
    judges = [judge.name for judge in settings.judges]
    pairs = pair_up(main.scores)
    comparison = compare(pairs, judges, settings.seed)
    conditions = compare_groups(
        {name: pair_up(one.scores) for name, one in others.items()}, judges, "condition", settings.seed
    )
    by_category = compare_groups(_by_category(main), judges, "category", settings.seed)
    folder.write_table("judgements.parquet", main.judgements, JUDGEMENTS)
    folder.write_table("scores.parquet", main.scores, SCORES)
    folder.write_table("comparison.parquet", pa.Table.from_pylist(comparison, schema=COMPARISON))
    folder.write_table("conditions.parquet", pa.Table.from_pylist(conditions, schema=_CONDITION))
    folder.write_table("categories.parquet", pa.Table.from_pylist(by_category, schema=_CATEGORY))
    differ = variety(settings, run, folder / "images")
    every = [main, *others.values()]
    return StageOutcome(
        rows=dict(sum((_counts(one) for one in every), Counter())),
        cost_usd=spent_usd(ledger),
        figures={
            "comparison": comparison,
            "conditions": conditions,
            "categories": by_category,
            "variety": differ,
            "exploitation": exploitation(comparison, settings.scorer_names, judges, differ),
            "agreement": [
                row for name in settings.scorer_names for row in agreement(pairs, name, judges, settings.seed)
            ],
            "prompts": len(main.prompts),
            "pairs": len(main.drawn) // 2,
            "images_per_second": main.images_per_second,
            "traffic": main.traffic,
            "costs": [asdict(day) for day in costs_by_day(ledger, settings.judges)],
        },
    )


def _counts(one: Compared) -> Counter[str]:
    return Counter(row["status"] for row in one.drawn) + Counter(one.judgements["status"].to_pylist())


def _by_category(main: Compared) -> dict[str, Any]:
    """The pairs of each category of prompts; none where there are fewer than two categories."""
    pairs = pair_up(main.scores)
    categories = {row["prompt_id"]: row.get("category") or "" for row in main.prompts}
    names = sorted({name for name in categories.values() if name})
    if len(names) < 2:
        return {}
    chosen = {name: {prompt for prompt, own in categories.items() if own == name} for name in names}
    return {
        name: {key: part for key, found in pairs.items() if (part := found.of_prompts(chosen[name])) is not None}
        for name in names
    }
