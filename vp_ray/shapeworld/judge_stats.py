"""What the judge was asked and what it answered, so that a client's thrift can be checked from the other side."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from vp_ray.ids import content_id


class JudgeStats:
    """Counts of one server's life; used from its event loop alone."""

    def __init__(self) -> None:
        self.requests = 0
        self._admitted = (0, 0)
        self._answers: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._images = 0
        self._recent: deque[float] = deque()
        self._peak = 0
        self._bodies: Counter[str] = Counter()

    def arrived(self, now: float) -> int:
        """The running number of a request that came at `now`, from 0."""
        self._recent.append(now)
        while self._recent[0] <= now - 1.0:
            self._recent.popleft()
        self._peak = max(self._peak, len(self._recent))
        self.requests += 1
        return self.requests - 1

    def admitted(self, tokens: int) -> None:
        """The limits let in a request of so many tokens."""
        self._admitted = (self._admitted[0] + 1, self._admitted[1] + tokens)

    def faulted(self, fault: str) -> None:
        """A request met this fault."""
        self._faults[fault] += 1

    def answered(self, outcome: str) -> None:
        """A request ended with this HTTP status, or with `reset` or `timeout`."""
        self._answers[outcome] += 1

    def judged(self, body: bytes, images: int) -> None:
        """A request got a sound reply on so many images."""
        self._images += images
        self._bodies[content_id(body)] += 1

    def as_json(self) -> dict[str, Any]:
        """All counts.

        `answers` is by HTTP status; `bodies_judged` and `bodies_judged_again` count distinct request bodies with a
        sound reply, and those of them with more than one: what was paid for more than once.
        """
        return {
            "requests": self.requests,
            "admitted": self._admitted[0],
            "tokens_admitted": self._admitted[1],
            "answers": dict(self._answers),
            "faults": dict(self._faults),
            "rate_limited": self._answers["429"],
            "images_judged": self._images,
            "peak_requests_per_second": self._peak,
            "bodies_judged": len(self._bodies),
            "bodies_judged_again": sum(count > 1 for count in self._bodies.values()),
        }
