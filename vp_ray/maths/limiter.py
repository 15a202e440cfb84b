"""The limits of one account: kept, learnt, lowered when the server refuses, and grown back.

`Throttle` lowers the pace once for each episode of refusals and lets it grow back. `RateLimit` joins requests and
tokens, by the minute and by the day (`vp_ray.maths.pacing`), and finds limits that it was not told. How many requests
may be under way at a server that never refuses is found by `vp_ray.maths.congestion`.

All times are seconds of one clock that never goes back; nothing here reads it or waits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from vp_ray.maths.pacing import DAY, MINUTE, Pacer, Window

CATCH_UP_SECONDS: Final = 0.4
"""Who asks so late still has the place that was free when it was ready; servers allow bursts of a second or more."""

_DAY_BUCKET_SECONDS: Final = 600.0
"""What was sent is summed up by so much for the limits of a day."""

_CUT_SHARES: Final = (0.005, 0.25)
_SECONDS_OF_FULL_CUT: Final = 10.0
_FLOOR: Final = 0.05
_REGROWTH_SECONDS: Final = 60.0

_START_PACES: Final = (0.25, 0.5)
"""The pace of the first request, and the most before the first answer: half, since a guess may be double the truth."""
_START_DOUBLING_SECONDS: Final = 0.25

_GROWTH_SECONDS: Final = 10.0
_GROWTHS: Final = (1.25, 1.02)
"""Growth of a limit that no server states, in each interval without refusals: before the first refusal, and after."""
_WELL_USED: Final = 0.8
"""A limit is known to hold only when so much of it is used; below, it does not grow."""


def cut_share(retry_after_seconds: float) -> float:
    """The share by which an episode of refusals lowers the pace.

    A server that asks to wait for milliseconds was met a little too early: half a percent. One that asks for 10
    seconds or more, or says nothing (0), is overrun: a quarter.
    """
    least, most = _CUT_SHARES
    if retry_after_seconds <= 0:
        return most
    return min(most, max(least, retry_after_seconds / _SECONDS_OF_FULL_CUT * most))


@dataclass(slots=True)
class Throttle:
    """A pace in (0, 1], lowered once for each episode of refusals and grown back to 1 within a minute.

    Refusals of requests that left before the last cut belong to the same episode and cut nothing.
    """

    _pace: float = 1.0
    _since: float = float("-inf")
    episodes: int = 0

    def pace(self, now: float) -> float:
        """The pace at `now`, which grows linearly from the last cut to 1."""
        if self._pace >= 1.0:
            return 1.0
        return min(1.0, self._pace + (1.0 - self._pace) * max(0.0, now - self._since) / _REGROWTH_SECONDS)

    def opens_episode(self, now: float, sent_at: float) -> bool:
        """Whether the refusal at `now` of a request that left at `sent_at` opens an episode."""
        if sent_at <= self._since:
            return False
        self._pace, self._since = self.pace(now), now
        self.episodes += 1
        return True

    def cut(self, share: float) -> None:
        """Lowers the pace by a share, as of the last episode."""
        self._pace = max(_FLOOR, self._pace * (1.0 - share))


@dataclass(slots=True)
class RateLimit:
    """The requests and tokens, a minute and a day, that one account may send, of which all limits are kept.

    Where `learns`, the limits a minute are first guesses: what the server states replaces them, and where it states
    nothing they grow while at least 80 % of them are used and nothing is refused, and shrink when something is.
    Otherwise they are limits of the user's own, which no statement raises.
    """

    allowed_requests: float
    """Requests a minute, as set; 0 is no limit."""
    allowed_tokens: float
    """Tokens a minute, as set; 0 is no limit."""
    requests_per_day: float = 0.0
    tokens_per_day: float = 0.0
    learns: bool = False
    throttle: Throttle = field(default_factory=Throttle)
    requests: Pacer = field(init=False)
    tokens: Pacer = field(init=False)
    days: tuple[Window, Window] = field(init=False)
    stated: bool = False
    """Whether the server has told its limits."""
    _answered: bool = False
    _began: float | None = None
    _interval_began: float = float("-inf")
    _interval: tuple[float, float] = (0.0, 0.0)
    """Requests and tokens that were booked in the interval."""
    _turned_away: int = 0

    def __post_init__(self) -> None:
        self.requests, self.tokens = Pacer(self.allowed_requests), Pacer(self.allowed_tokens)
        self.days = (
            Window(self.requests_per_day, DAY, _DAY_BUCKET_SECONDS),
            Window(self.tokens_per_day, DAY, _DAY_BUCKET_SECONDS),
        )

    def reserve(
        self, now: float, tokens: float, horizon_seconds: float = float("inf"), waited_seconds: float = 0.0
    ) -> float:
        """The time, from `now` on, at which one request of so many tokens may leave; the place is booked.

        A place further ahead than the horizon is not booked: by then, the server may have said something new. A request
        that has waited takes a place of the last `CATCH_UP_SECONDS` that nobody took.
        """
        self._began = now if self._began is None else self._began
        start, before = now, float("-inf")
        while start != before:
            before = start
            start = self.requests.earliest(start, 1)
            start = self.tokens.earliest(start, tokens)
            start = self.days[0].earliest(start, 1)
            start = self.days[1].earliest(start, tokens)
        if start - now > horizon_seconds:
            return start
        pace = self._pace(now)
        due = now - min(waited_seconds, CATCH_UP_SECONDS) if start <= now else start
        self.requests.commit(start, 1, pace, due)
        self.tokens.commit(start, tokens, pace, due)
        self.count_today(start, 1, tokens)
        self._grow(now, tokens)
        return start

    def count_today(self, time: float, requests: float, tokens: float) -> None:
        """Counts what left at `time` against the limits of the day."""
        for window, amount in zip(self.days, (requests, tokens), strict=True):
            if window.limit:
                window.book(time, amount)

    def _pace(self, now: float) -> float:
        if self._answered or self._began is None:
            return self.throttle.pace(now)
        first, most = _START_PACES
        return float(min(most, first * 2.0 ** ((now - self._began) / _START_DOUBLING_SECONDS)))

    def _grow(self, now: float, tokens: float) -> None:
        """Sums up what was booked, and after each interval raises limits that nobody stated and that were used."""
        if not self.learns or self.stated:
            return
        seconds = now - self._interval_began
        if seconds >= _GROWTH_SECONDS:
            factor = _GROWTHS[self.throttle.episodes > 0]
            for pacer, amount in zip((self.requests, self.tokens), self._interval, strict=True):
                if amount and amount >= _WELL_USED * pacer.limit * seconds / MINUTE and self._answered:
                    pacer.limit *= factor
            self._interval_began, self._interval = now, (0.0, 0.0)
        self._interval = (self._interval[0] + 1, self._interval[1] + tokens)

    def answered(self) -> None:
        """The server answered a request: the slow start is over."""
        self._answered = True

    def learn(self, requests: float | None, tokens: float | None) -> None:
        """Follows the limits that a server states; up to what the user allows, unless that is only a first guess."""
        pairs = ((self.requests, self.allowed_requests, requests), (self.tokens, self.allowed_tokens, tokens))
        for pacer, allowed, stated in pairs:
            if stated is not None and stated > 0:
                pacer.limit = stated if self.learns else min(stated, allowed or stated)
                self.stated = True

    def refused(self, now: float, sent_at: float, retry_after_seconds: float) -> bool:
        """Waits as the server asks; whether this refusal opened an episode, and so lowered the pace."""
        seconds = max(now - self._interval_began, 1.0)
        for pacer in (self.requests, self.tokens):
            pacer.hold_until(now + retry_after_seconds)
        if not self.throttle.opens_episode(now, sent_at):
            return False
        share = cut_share(retry_after_seconds)
        if self.stated or not self.learns:
            self.throttle.cut(share)
            return True
        # Nobody told the limit, so it is lower than what was sent; growth goes on from there.
        for pacer, amount in zip((self.requests, self.tokens), self._interval, strict=True):
            rate = pacer.limit or amount * MINUTE / seconds
            pacer.limit = max(1.0, rate * (1.0 - share))
        self._interval_began, self._interval = now + retry_after_seconds, (0.0, 0.0)
        return True

    def turned_away(self, now: float, tokens: float) -> None:
        """Takes back what a request was booked for that the server refused although its limits were not reached.

        Servers differ in whether they count such requests. After the first refusal by rate, nothing is taken back.
        """
        if not self.throttle.episodes:
            self.requests.give_back(now, 1)
            self.tokens.give_back(now, tokens)
