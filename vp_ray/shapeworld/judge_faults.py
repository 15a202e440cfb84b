"""What goes wrong on purpose: which request meets which fault, and what a broken reply looks like."""

from __future__ import annotations

import math
from enum import StrEnum
from statistics import NormalDist

from vp_ray.ids import uniform_from
from vp_ray.shapeworld.config import JudgeSettings


class Fault(StrEnum):
    """The names of `FaultSettings`."""

    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    RESET = "reset"
    TIMEOUT = "timeout"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    CONTENT_FILTERED = "content_filtered"


def draw_fault(settings: JudgeSettings, number: int) -> Fault | None:
    """The fault of the request with this running number, or None; the same for the same seed."""
    place = uniform_from(settings.seed, "judge-fault", number)
    for name, share in settings.faults.shares().items():
        if place < share:
            return Fault(name)
        place -= share
    return None


def draw_latency(settings: JudgeSettings, number: int) -> float:
    """Seconds until the reply: log-normal with the median and spread of the settings."""
    if settings.latency_spread == 0:
        return settings.latency_seconds
    place = min(max(uniform_from(settings.seed, "judge-latency", number), 1e-12), 1 - 1e-12)
    return settings.latency_seconds * math.exp(settings.latency_spread * NormalDist().inv_cdf(place))


def malform(content: str) -> str:
    """What no JSON parser takes: it starts with prose and its quotes are single."""
    return "Here is my judgement: " + content.replace('"', "'")


def cut_short(content: str, share: float = 0.6) -> str:
    """The first part of a reply; of JSON it is never a whole value."""
    return content[: int(len(content) * share)]
