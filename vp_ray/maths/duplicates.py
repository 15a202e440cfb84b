"""Prompts that are nearly the same: clusters of them, and those that are on a list of test prompts.

Some 150 bytes a prompt are held beside the prompts themselves: of a sketch only a key a band is kept, and the shingles
of a candidate are made again.

Letters of shapes: N prompts, S shingles of some prompts, H hash functions, B bands.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final

import numpy as np
from datasketch import MinHash, MinHashLSH
from datasketch.hashfunc import sha1_hash32
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]

_SHINGLE: Final = 5
_PERMUTATIONS: Final = 128
_BAND_MEMBERS: Final = 32
_SKETCHED_TOGETHER: Final = 128
_SHINGLES_KEPT: Final = 1 << 20
_PROMPTS_KEPT: Final = 1 << 14


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


class Sketches:
    """MinHash sketches as `datasketch.MinHash` makes them (its scheme `affine32`), many prompts at once."""

    def __init__(self) -> None:
        multiplier, summand = MinHash(num_perm=_PERMUTATIONS, seed=1).permutations
        self._multiplier_H, self._summand_H = multiplier.astype(np.uint32), summand.astype(np.uint32)
        # Prompts share most of their shingles with others.
        self._hash = lru_cache(_SHINGLES_KEPT)(sha1_hash32)

    def of(self, sets: Sequence[frozenset[bytes]]) -> NDArray[np.uint32]:
        """(N, H) sketches of sets that are not empty."""
        hash_S = _mixed(np.fromiter((self._hash(part) for own in sets for part in own), np.uint32))
        starts = np.cumsum([0, *(len(own) for own in sets[:-1])])
        # One function after the other, which stays within the processor's cache.
        columns = (
            np.minimum.reduceat(hash_S * factor + summand, starts)
            for factor, summand in zip(self._multiplier_H, self._summand_H, strict=True)
        )
        return np.stack(list(columns), axis=1)


def _mixed(hash_S: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The finalizer of MurmurHash3 (Appleby 2008), which `affine32` puts before its permutations."""
    mixed = hash_S ^ (hash_S >> np.uint32(16))
    mixed = mixed * np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed = mixed * np.uint32(0xC2B2AE35)
    return mixed ^ (mixed >> np.uint32(16))


class NearDuplicates:
    """Prompts by their shingles; candidates come from MinHash and are checked exactly."""

    def __init__(self, texts: Sequence[str], least: float) -> None:
        self._texts, self._least = texts, least
        self._sketches = Sketches()
        # A missed pair is a leak and a false candidate costs one check: misses weigh nine times as much.
        bands = MinHashLSH(threshold=least, num_perm=_PERMUTATIONS, weights=(0.1, 0.9))
        self._bands, self._rows = int(bands.b), int(bands.r)
        self._keys_BN = self._keys(texts, len(texts))
        self._shingles = lru_cache(_PROMPTS_KEPT)(lambda place: shingles(self._texts[place]))

    def _keys(self, texts: Iterable[str], count: int) -> Keys:
        """(B, N) a key for each band of each prompt's sketch."""
        keys = np.empty((self._bands, count), np.uint64)
        done, rest = 0, iter(texts)
        while part := [shingles(text) for text in islice(rest, _SKETCHED_TOGETHER)]:
            sketch = self._sketches.of(part)[:, : self._bands * self._rows].astype(np.uint64)
            key = np.full((len(part), self._bands), 0xCBF29CE484222325, np.uint64)
            for row in np.moveaxis(sketch.reshape(len(part), self._bands, self._rows), 2, 0):
                # FNV-1a (Fowler, Noll, Vo) over 32-bit words; equal keys of unequal bands cost one check.
                key = (key ^ row) * np.uint64(0x100000001B3)
                key ^= key >> np.uint64(29)
            keys[:, done : done + len(part)] = key.T
            done += len(part)
        return keys

    def clusters(self) -> Ints:
        """The cluster of each prompt, named by its first member; chains of near-duplicates are one cluster."""
        parent: dict[int, int] = {}

        def root(place: int) -> int:
            while (above := parent.get(place, place)) != place:
                parent[place] = parent.get(above, above)
                place = parent[place]
            return place

        # Neighbours share a band of their sketches. A band that very many share, as in prompts made from a template,
        # is compared with its latest members only: such prompts join through one another.
        for key_N in self._keys_BN:
            for members in _sharing(key_N):
                for number, place in enumerate(members):
                    for other in members[max(0, number - _BAND_MEMBERS) : number]:
                        one, two = sorted((root(other), root(place)))
                        if one != two and similarity(self._shingles(place), self._shingles(other)) >= self._least:
                            parent[two] = one
        found = np.arange(len(self._texts), dtype=np.int64)
        for place in parent:
            found[place] = root(place)
        return found

    def matches(self, texts: Iterable[str]) -> tuple[set[int], set[int]]:
        """Places of the prompts that equal one of these after normalising, and of those that nearly do."""
        listed = list(texts)
        wanted = [shingles(text) for text in listed]
        same = set(wanted)
        equal: set[int] = set()
        near: set[int] = set()
        for key_N, key_M in zip(self._keys_BN, self._keys(listed, len(listed)), strict=True):
            by_key: dict[int, list[int]] = {}
            for number, key in enumerate(key_M.tolist()):
                by_key.setdefault(key, []).append(number)
            for place in np.flatnonzero(np.isin(key_N, key_M)).tolist():
                if place in equal:
                    continue
                own = self._shingles(place)
                if own in same:
                    equal.add(place)
                elif place not in near and any(
                    similarity(wanted[number], own) >= self._least for number in by_key[int(key_N[place])]
                ):
                    near.add(place)
        return equal, near - equal


def _sharing(key_N: Keys) -> Iterator[list[int]]:
    """The places, ascending, of each key that several have."""
    order = np.argsort(key_N, kind="stable")
    edges = np.flatnonzero(np.diff(key_N[order])) + 1
    starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(order)]])
    for several in np.flatnonzero(ends - starts > 1):
        yield order[starts[several] : ends[several]].tolist()
