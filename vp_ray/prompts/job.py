"""Wires the prompts stage: read, mask, clean, take near-duplicates out, moderate, polish, write.

prompts/ledger/*.jsonl      every answer of a moderation endpoint or a language model
prompts/prompts.parquet     written while prompts are read; anew without near-duplicates, and once models answered
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

import pyarrow as pa

from vp_ray.errors import InputError
from vp_ray.prompts.cleaning import cleaned
from vp_ray.prompts.config import PromptSettings
from vp_ray.prompts.masking import masked_prompts
from vp_ray.prompts.reading import read
from vp_ray.records import PROMPTS
from vp_ray.storage import Folder, RunFolder, StageOutcome
from vp_ray.streams import table_parts, table_writer
from vp_ray.telemetry import progress

_LEDGER: Final = "ledger"
_TABLE: Final = "prompts.parquet"
_CHUNK_ROWS: Final = 1 << 14


def run(settings: PromptSettings, run: RunFolder, embedded_url: str | None = None) -> StageOutcome:
    """Writes `prompts/prompts.parquet`; raises `InputError` when no prompt is left.

    With moderation or polish, `embedded_url` is the address of the pipeline's own judge, for models that name it; Ray
    must be connected, since the limits of an account hold for the whole cluster. Raises `AnnotatorError` or
    `BudgetError`; all answers so far stay in `ledger/`, and a second call goes on from them.
    """
    stage = run.stage("prompts")
    masks: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    raw = (prompt for source in settings.sources for prompt in read(source))
    _write(stage, cleaned(masked_prompts(raw, settings.mask, masks), settings, counts), counts)
    if settings.near_duplicates is not None:
        counts["near_duplicate"] = _drop_near_duplicates(stage, settings.near_duplicates)
    figures: dict[str, Any] = {"masked": dict(masks)} if settings.mask else {}
    cost = 0.0
    if settings.models:
        from vp_ray.prompts.panel import ask_models

        asked = stage.read_table(_TABLE).to_pylist()
        rows, dropped, told, cost = ask_models(settings, asked, (stage / _LEDGER).make(), embedded_url)
        counts.update(dropped)
        figures |= told
        _write(stage, rows, +counts)
    splits: Counter[str] = Counter()
    for part in table_parts(stage, _TABLE, ["split"]):
        splits.update(part["split"].to_pylist())
    counts["kept"] = splits.total()
    return StageOutcome(dict(+counts), cost, {"splits": dict(splits), **figures})


def _write(folder: Folder, rows: Iterable[dict[str, Any]], counts: Counter[str]) -> None:
    """Writes the prompts as they come; where there is none, raises `InputError` and writes nothing."""
    written, left = 0, iter(rows)
    with progress("prompts", "prompts") as bar, table_writer(folder, _TABLE, PROMPTS) as append:
        while chunk := list(islice(left, _CHUNK_ROWS)):
            append(pa.Table.from_pylist(chunk, schema=PROMPTS))
            written += len(chunk)
            bar.update(written)
        if not written:
            dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()) if reason != "kept")
            reasons = dropped or "the sources are empty"
            raise InputError(
                f"no prompt is left ({reasons})", "Check the files and the limits under `prompts`.", "prompts"
            )


def _drop_near_duplicates(folder: Folder, least: float) -> int:
    """Writes the prompts again, of each cluster the first, and returns how many others there were."""
    from vp_ray.prompts.steps import first_of_clusters

    texts = [text for part in table_parts(folder, _TABLE, ["prompt"]) for text in part["prompt"].to_pylist()]
    kept = first_of_clusters(texts, least)
    place = 0
    with table_writer(folder, _TABLE, PROMPTS) as append:
        for part in table_parts(folder, _TABLE):
            append(part.filter(pa.array(kept[place : place + part.num_rows])))
            place += part.num_rows
    return int(len(kept) - kept.sum())
