"""Which training prompts are most like another: by the words that they share, rare ones counting more."""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

_WORD: Final = re.compile(r"\w+")


def words_of(prompt: str) -> frozenset[str]:
    """The words of a prompt, whatever their case."""
    return frozenset(_WORD.findall(prompt.casefold()))


@dataclass(slots=True)
class Prompts:
    """Prompts by id, among which the nearest ones are looked for."""

    texts: Mapping[str, str]
    _words: dict[str, frozenset[str]] = field(init=False)
    _weights: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self._words = {name: words_of(text) for name, text in self.texts.items()}
        counts = Counter(word for words in self._words.values() for word in words)
        self._weights = {word: math.log(1 + len(self._words) / count) for word, count in counts.items()}

    def _weight(self, words: Iterable[str]) -> float:
        unseen = math.log(1 + len(self._words))
        return sum(self._weights.get(word, unseen) for word in words)

    def nearest(self, prompt: str, most: int) -> list[tuple[str, float]]:
        """(id, likeness) of at most so many prompts that share a word with this one, the most like first.

        Likeness is the weight of the shared words over that of all words of both: 1 for the same words, 0 for none
        (a weighted Jaccard index, with log(1 + N / n) for a word that n of N prompts have).
        """
        wanted = words_of(prompt)
        shared = ((name, words & wanted, words | wanted) for name, words in self._words.items())
        likenesses = ((self._weight(both) / self._weight(all_), name) for name, both, all_ in shared if both)
        return [(name, likeness) for likeness, name in heapq.nlargest(most, likenesses)]
