"""What the last 24 hours' answers took of the limits of a day, read from a ledger: limits outlive the gate."""

from __future__ import annotations

from dataclasses import dataclass

from vp_ray.judging.ledger import ledger_rows
from vp_ray.maths.pacing import DAY
from vp_ray.storage import Folder


@dataclass(frozen=True, slots=True)
class Sent:
    """What one answer took."""

    annotator: str
    answered_at: float
    """Seconds since 1970."""
    requests: int
    tokens: int


def sent_within_a_day(ledger: Folder, now: float) -> list[Sent]:
    """What was answered in the 24 hours before `now` (seconds since 1970), in the order of time."""
    found = [
        Sent(
            row["annotator"],
            row["answered_at"],
            row.get("attempts") or 1,
            (row.get("request_tokens") or 0) + (row.get("reply_tokens") or 0),
        )
        for row in ledger_rows(ledger)
        if (row.get("answered_at") or 0.0) > now - DAY
    ]
    return sorted(found, key=lambda sent: sent.answered_at)
