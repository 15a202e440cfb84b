"""Wires the prompts stage: read, clean, write."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from vp_ray.errors import InputError
from vp_ray.prompts.cleaning import clean
from vp_ray.prompts.config import PromptSettings
from vp_ray.prompts.reading import read
from vp_ray.records import PROMPTS
from vp_ray.storage import RunFolder, StageOutcome
from vp_ray.telemetry import progress


def run(settings: PromptSettings, run: RunFolder) -> StageOutcome:
    """Writes `prompts/prompts.parquet`; raises `InputError` when no prompt is left."""
    with progress("prompts", "prompts") as bar:
        rows, counts = clean((prompt for source in settings.sources for prompt in read(source)), settings)
        bar.update(len(rows))
    if not rows:
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "the sources are empty"
        raise InputError(f"no prompt is left ({dropped})", "Check the files and the limits under `prompts`.", "prompts")
    run.stage("prompts").write_table("prompts.parquet", pa.Table.from_pylist(rows, schema=PROMPTS))
    splits = Counter(row["split"] for row in rows)
    return StageOutcome(rows=dict(counts), figures={"splits": dict(splits)})
