"""Counts of the pairs of a stage, while they are written part by part."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(slots=True)
class Tally:
    """How many pairs there are, by aspect and split, and what they are like."""

    rows: int = 0
    by_aspect: Counter[str] = field(default_factory=Counter)
    ties_by_aspect: Counter[str] = field(default_factory=Counter)
    by_split: Counter[str] = field(default_factory=Counter)
    abstentions: int = 0
    same_generator: Counter[bool] = field(default_factory=Counter)
    """Pairs within one generator, and of two; those of unknown generators are neither."""

    def add(self, table: pa.Table) -> None:
        """Counts some rows of `records.PREFERENCES`."""
        self.rows += table.num_rows
        tied = table.filter(pc.equal(table["probability_a"], 0.5))
        for counter, column in (
            (self.by_aspect, table["aspect"]),
            (self.ties_by_aspect, tied["aspect"]),
            (self.by_split, table["split"]),
            (self.same_generator, table["same_generator"].drop_null()),
        ):
            counter.update({item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()})
        self.abstentions += table["margin"].null_count

    def figures(self) -> dict[str, Any]:
        """What the manifest says of the pairs."""
        aspects, known = sorted(self.by_aspect), self.same_generator.total()
        return {
            "pairs_by_aspect": {aspect: self.by_aspect[aspect] for aspect in aspects},
            "tie_share_by_aspect": {aspect: self.ties_by_aspect[aspect] / self.by_aspect[aspect] for aspect in aspects},
            "abstentions": self.abstentions,
            "preferences_by_split": dict(sorted(self.by_split.items())),
            "same_generator_share": self.same_generator[True] / known if known else None,
        }
