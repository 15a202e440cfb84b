"""Prompts that are nearly the same: clusters of them, and those that are on a list of test prompts."""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_SHINGLE: Final = 5
_PERMUTATIONS: Final = 128
_BAND_MEMBERS: Final = 32


def normalised(text: str) -> str:
    """The prompt in NFKC and lower case, with words and nothing else, one space apart."""
    composed = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in composed).split())


def shingles(text: str) -> frozenset[bytes]:
    """The sets of five successive characters of a normalised prompt; a shorter one is its own."""
    clean = normalised(text)
    return frozenset(clean[n : n + _SHINGLE].encode() for n in range(max(1, len(clean) - _SHINGLE + 1)))


def similarity(one: frozenset[bytes], other: frozenset[bytes]) -> float:
    """Jaccard's: |A and B| / |A or B|."""
    return len(one & other) / len(one | other)


class NearDuplicates:
    """Prompts by their shingles; candidates come from MinHash and are checked exactly."""

    def __init__(self, texts: Sequence[str], least: float) -> None:
        self._least = least
        self.shingles = [shingles(text) for text in texts]
        self._hashes = MinHash.bulk(self.shingles, num_perm=_PERMUTATIONS, seed=1)
        # A missed pair is a leak and a false candidate costs one check: misses weigh nine times as much.
        self._index = MinHashLSH(threshold=least, num_perm=_PERMUTATIONS, weights=(0.1, 0.9))

    def clusters(self) -> Ints:
        """The cluster of each prompt, named by its first member; chains of near-duplicates are one cluster."""
        parent = list(range(len(self.shingles)))

        def root(place: int) -> int:
            while parent[place] != place:
                parent[place] = parent[parent[place]]
                place = parent[place]
            return place

        # Neighbours share a band of their sketches. A band that very many share, as in prompts made from a template,
        # is compared with its latest members only: such prompts join through one another.
        bands: list[dict[bytes, deque[int]]] = [{} for _ in range(self._index.b)]
        for place, sketch in enumerate(self._hashes):
            for number, band in enumerate(bands):
                key = sketch.hashvalues[number * self._index.r : (number + 1) * self._index.r].tobytes()
                members = band.setdefault(key, deque(maxlen=_BAND_MEMBERS))
                for other in members:
                    one, two = sorted((root(other), root(place)))
                    if one != two and similarity(self.shingles[place], self.shingles[other]) >= self._least:
                        parent[two] = one
                members.append(place)
        return np.array([root(place) for place in range(len(parent))], np.int64)

    def matches(self, texts: Iterable[str]) -> tuple[set[int], set[int]]:
        """Places of the prompts that equal one of these after normalising, and of those that nearly do."""
        for place, sketch in enumerate(self._hashes):
            if place not in self._index:
                self._index.insert(place, sketch)
        wanted = [shingles(text) for text in texts]
        equal: set[int] = set()
        near: set[int] = set()
        by_text: dict[frozenset[bytes], list[int]] = {}
        for place, own in enumerate(self.shingles):
            by_text.setdefault(own, []).append(place)
        for own, sketch in zip(wanted, MinHash.bulk(wanted, num_perm=_PERMUTATIONS, seed=1), strict=True):
            equal.update(by_text.get(own, ()))
            found = (place for place in self._index.query(sketch) if place not in near)
            near.update(place for place in found if similarity(own, self.shingles[place]) >= self._least)
        return equal, near - equal
