"""How many tokens an image costs at a model, before it is sent; the reply's `usage` has the last word."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class _Tiled:
    base: int
    tile: int

    def count(self, width: int, height: int, detail: str) -> int:
        """`base + tile x tiles` of 512 pixels, after shrinking into 2048 and then the short side to 768."""
        if detail == "low":
            return self.base
        scale = min(1.0, 2048 / max(width, height))
        scale *= min(1.0, 768 / (min(width, height) * scale))
        across, down = (math.ceil(round(side * scale, 6) / 512) for side in (width, height))
        return self.base + self.tile * across * down


@dataclass(frozen=True, slots=True)
class _Patches:
    factor: float
    most: int = 1536

    def count(self, width: int, height: int, detail: str) -> int:
        """`factor x patches` of 32 pixels, at most `most` patches; `detail` changes nothing."""
        patches = min(self.most, math.ceil(width / 32) * math.ceil(height / 32))
        return math.ceil(patches * self.factor)


@dataclass(frozen=True, slots=True)
class _Merged:
    side: int
    most: int = 16384

    def count(self, width: int, height: int, detail: str) -> int:
        """A token for each square of `side` pixels, sides rounded to whole squares, and two that mark the image."""
        across, down = (max(1, round(length / self.side)) for length in (width, height))
        return min(self.most, across * down) + 2


_Rule = _Tiled | _Patches | _Merged
TABLE_AS_OF: Final = "2026-11"

_RULES: Final[dict[str, _Rule]] = {
    "gpt-4o": _Tiled(85, 170),
    "gpt-4.1": _Tiled(85, 170),
    "gpt-4o-mini": _Tiled(2833, 5667),
    "gpt-5": _Tiled(70, 140),
    "gpt-5.1": _Tiled(70, 140),
    "o1": _Tiled(75, 150),
    "o3": _Tiled(75, 150),
    "gpt-4.1-mini": _Patches(1.62),
    "gpt-4.1-nano": _Patches(2.46),
    "o4-mini": _Patches(1.72),
    # As billed; the provider's guide had said 1.62 and 2.46.
    "gpt-5-mini": _Patches(1.2),
    "gpt-5-nano": _Patches(1.5),
    "gpt-5.2": _Patches(1.2),
    "gpt-5.4": _Patches(1.2),
    "gpt-5.5": _Patches(1.2),
    "gpt-5.6": _Patches(1.2),
    "shapeworld": _Tiled(85, 0),
}
# Qwen2-VL and Qwen2.5-VL: a token for 28 x 28 pixels, Qwen3-VL for 32 x 32, at any address that serves them.
_QWEN: Final[dict[str, _Rule]] = {"qwen2": _Merged(28), "qwen3": _Merged(32)}
_UNKNOWN: Final = _Tiled(85, 170)


def image_tokens(model: str, width: int, height: int, detail: str = "auto") -> int:
    """Tokens of one image of these pixels at `model`, by the rule of the longest known name that begins its name."""
    plain = model.rsplit("/", 1)[-1].lower()
    for family, rule in _QWEN.items():
        if plain.startswith(family) and "vl" in plain:
            return rule.count(width, height, detail)
    known = [name for name in _RULES if model == name or model.startswith(f"{name}-")]
    chosen = _RULES[max(known, key=len)] if known else _UNKNOWN
    return chosen.count(width, height, detail)


def text_tokens(text: str) -> int:
    """Tokens of a text, a little above what tokenisers give: one for every 3.5 bytes of UTF-8."""
    return math.ceil(len(text.encode()) / 3.5)


_MOST_WEIGHT_OF_PAST: Final = 50
ALARM_SHARE: Final = 0.2
"""Bills that part from the estimates by more than this raise an alarm."""
_ALARM_AFTER: Final = 10
"""Answers before an alarm, so that one odd prompt raises none."""


@dataclass(slots=True)
class TokenEstimate:
    """How estimates of requests compare with what the provider bills, for one annotator.

    A mean over the last answers, so that the first answer settles most of the difference.
    """

    annotator: str
    ratio: float = 1.0
    """Billed tokens over estimated ones."""
    _answers: int = 0
    _alarmed: bool = False

    def settle(self, estimated: int, billed: int | None) -> bool:
        """Takes in one answer's count; whether an alarm was raised, once, since the two part by more than 20 %."""
        if billed is None or billed <= 0 or estimated <= 0:
            return False
        self._answers += 1
        self.ratio += (billed / estimated - self.ratio) / min(self._answers, _MOST_WEIGHT_OF_PAST)
        if self._alarmed or self._answers < _ALARM_AFTER or abs(self.ratio - 1.0) <= ALARM_SHARE:
            return False
        self._alarmed = True
        logging.getLogger(__name__).warning(
            "the annotator '%s' bills %.2f times the tokens that were estimated for its requests; "
            "budget and limits follow what it bills, a plan made before does not: set its image_tokens",
            self.annotator,
            self.ratio,
        )
        return True
