"""Costs by model and day, worked by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.unit.judging.conftest import annotator
from vp_ray.judging.config import PriceSettings
from vp_ray.judging.costs import costs_by_day
from vp_ray.storage import Folder


def row(name: str, by: str, when: str | None, cost: float | None, status: str = "scored") -> dict[str, Any]:
    at = datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp() if when else None
    tokens = {"request_tokens": 1000, "reply_tokens": 100, "attempts": 2}
    return {"judgement_id": name, "annotator": by, "status": status, "cost_usd": cost, "answered_at": at, **tokens}


def test_costs_are_summed_by_model_and_day_with_answers_that_were_replaced_and_unknown_prices_stay_unknown(
    tmp_path: Path,
) -> None:
    ledger = Folder.at(tmp_path)
    rows = [
        row("a", "big", "2026-11-24T23:59:59", 0.5),
        row("b", "big", "2026-11-25T00:00:00", 0.25, "refused"),
        row("b", "big", "2026-11-25T09:00:00", 0.25),
        row("c", "own", "2026-11-25T09:00:00", 0.125),
        row("d", "open", None, None),
    ]
    ledger.write_bytes("w.jsonl", "".join(f"{json.dumps(one)}\n" for one in rows).encode())
    url = "http://127.0.0.1:9/v1"
    own = PriceSettings(request_usd_per_million_tokens=100, reply_usd_per_million_tokens=250)
    annotators = [
        annotator(name="own", model="mine", base_url=url, price=own),
        annotator(name="big", model="gpt-4o", base_url=url),
        annotator(name="open", model="unpriced", base_url=url),
    ]
    shown = ("model", "day", "prices_as_of", "answers", "request_tokens", "cost_usd")
    found = [tuple(asdict(day)[key] for key in shown) for day in costs_by_day(ledger, annotators)]
    assert found == [
        ("mine", "2026-11-25", "settings", 1, 1000, 0.125),
        ("gpt-4o", "2026-11-24", "2026-11", 1, 1000, 0.5),
        ("gpt-4o", "2026-11-25", "2026-11", 2, 2000, 0.5),
        ("unpriced", None, None, 1, 1000, None),
    ]
