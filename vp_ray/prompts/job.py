"""Wires the prompts stage: read, mask, clean, take near-duplicates out, moderate, polish, write.

prompts/ledger/*.jsonl      every answer of a moderation endpoint or a language model
prompts/prompts.parquet
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pyarrow as pa

from vp_ray.errors import InputError
from vp_ray.prompts.cleaning import clean
from vp_ray.prompts.config import PromptSettings
from vp_ray.prompts.masking import masked_prompts
from vp_ray.prompts.reading import read
from vp_ray.records import PROMPTS
from vp_ray.storage import RunFolder, StageOutcome
from vp_ray.telemetry import progress

_LEDGER: Final = "ledger"


def run(settings: PromptSettings, run: RunFolder, embedded_url: str | None = None) -> StageOutcome:
    """Writes `prompts/prompts.parquet`; raises `InputError` when no prompt is left.

    With moderation or polish, `embedded_url` is the address of the pipeline's own judge, for models that name it; Ray
    must be connected, since the limits of an account hold for the whole cluster. Raises `AnnotatorError` or
    `BudgetError`; all answers so far stay in `ledger/`, and a second call goes on from them.
    """
    masks: Counter[str] = Counter()
    with progress("prompts", "prompts") as bar:
        raw = (prompt for source in settings.sources for prompt in read(source))
        rows, counts = clean(masked_prompts(raw, settings.mask, masks), settings)
        bar.update(len(rows))
    if settings.near_duplicates is not None:
        from vp_ray.prompts.steps import first_of_clusters

        before = len(rows)
        rows = first_of_clusters(rows, settings.near_duplicates)
        counts["near_duplicate"] = before - len(rows)
    figures: dict[str, Any] = {"masked": dict(masks)} if settings.mask else {}
    ledger = run.stage("prompts") / _LEDGER
    cost = 0.0
    if settings.models and rows:
        from vp_ray.prompts.panel import ask_models

        rows, dropped, told, cost = ask_models(settings, rows, ledger.make(), embedded_url)
        counts.update(dropped)
        figures |= told
    counts["kept"] = len(rows)
    counts = +counts
    if not rows:
        dropped_as = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        reasons = dropped_as or "the sources are empty"
        raise InputError(f"no prompt is left ({reasons})", "Check the files and the limits under `prompts`.", "prompts")
    run.stage("prompts").write_table("prompts.parquet", pa.Table.from_pylist(rows, schema=PROMPTS))
    splits = Counter(row["split"] for row in rows)
    return StageOutcome(dict(counts), cost, {"splits": dict(splits), **figures})
