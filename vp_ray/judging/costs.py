"""What a ledger's answers cost, by model and day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vp_ray.judging.config import ModelSettings
from vp_ray.judging.ledger import ledger_rows
from vp_ray.judging.prices import price_date, price_of
from vp_ray.storage import Folder


@dataclass(slots=True)
class DayOfModel:
    """What one annotator's model was asked on one day, and what that cost."""

    annotator: str
    model: str
    day: str | None
    """The day in UTC, `2026-11-25`; None where the ledger does not tell."""
    prices_as_of: str | None
    """The date of the price table; `settings` where the user set the price, None where no price is known."""
    answers: int = 0
    attempts: int = 0
    request_tokens: int = 0
    reply_tokens: int = 0
    cost_usd: float | None = None
    """None where the price is not known."""


def costs_by_day(ledger: Folder, annotators: Sequence[ModelSettings]) -> list[DayOfModel]:
    """What was paid, a row for each model and day, in the order of the annotators and the days.

    Every row of the ledger counts, also those that a better answer replaced: they were paid for as well.
    """
    settings = {item.name: item for item in annotators}
    found: dict[tuple[str, str], DayOfModel] = {}
    for row in ledger_rows(ledger):
        annotator, day = row["annotator"] or "", _day(row.get("answered_at"))
        if (annotator, day or "") not in found:
            known = settings.get(annotator)
            dated = price_date(known) if known is not None and price_of(known) is not None else None
            found[annotator, day or ""] = DayOfModel(annotator, known.model if known else annotator, day, dated)
        _add(found[annotator, day or ""], row)
    places = {name: place for place, name in enumerate(settings)}
    return [found[key] for key in sorted(found, key=lambda key: (places.get(key[0], len(places)), key))]


def _day(answered_at: float | None) -> str | None:
    return None if answered_at is None else datetime.fromtimestamp(answered_at, UTC).date().isoformat()


def _add(total: DayOfModel, row: dict[str, Any]) -> None:
    total.answers += 1
    total.attempts += row.get("attempts") or 0
    total.request_tokens += row.get("request_tokens") or 0
    total.reply_tokens += row.get("reply_tokens") or 0
    if row.get("cost_usd") is not None:
        total.cost_usd = (total.cost_usd or 0.0) + row["cost_usd"]
