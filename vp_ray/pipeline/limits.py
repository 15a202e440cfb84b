"""What gives out first as a run grows: memory of the driver, requests a minute, files, shards a second, disk.

Everything is counted by the prompt, so that each limit says at how many prompts it is reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb
from typing import Final

from vp_ray.generate.config import GeneratorPool
from vp_ray.pipeline.scale import paced_minutes, requests_of_a_prompt
from vp_ray.pipeline.settings import JobSettings
from vp_ray.records import ASPECTS

BYTES_A_PROMPT: Final = 100
"""The prompts stage's set of names: 12 bytes each, as Python objects in a set."""
BYTES_A_PLANNED_SHARD: Final = 2_000
"""An allowance for a shard's place in the plan, its JSON and its block in Ray's object store; not measured."""
BYTES_A_JUDGEMENT: Final = 15_500 + 504 + 1_069 + 1_200
"""Reading the ledger whole when all is answered, by `benchmarks/ten_million_rows.py --only ledger` at 5,000 and 20,000
judgements with 16 rationales of 55 characters; then the plan, the shards, and these once more for Ray Data."""
BYTES_AN_INDEXED_IMAGE: Final = 176
"""An image's row of the index, in Arrow, where a prompt has some 80 characters."""
BYTES_A_RATING: Final = 1_000
"""Growth of the preferences stage's peak, with all checks but those of pixels, from 16,000 to 144,000 ratings."""
SHARDS_A_SECOND: Final = 16.0
"""Results that one driver took with 98 % of linear speed (`benchmarks/generation_scaling.py`, 32 actors of 2 s)."""
NAMES_A_LISTING: Final = 1_000
"""Names that one request to an object store lists."""
_GIB: Final = 2**30
_DAY_MINUTES: Final = 24 * 60


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that a run needs more of the larger it is."""

    what: str
    unit: str
    needed: float
    available: float
    """By the options, or what is usual."""
    prompts: float
    """How many prompts are drawn when all of it is used; infinite where prompts do not matter."""
    remedy: str

    @property
    def breaks(self) -> bool:
        """Whether more is needed than there is."""
        return self.needed > self.available


def limits_of(
    job: JobSettings,
    prompts: Mapping[str, int],
    gpus: int,
    memory_gib: float = 24.0,
    days: float = 7.0,
    disk_tb: float = 100.0,
    bytes_of_an_image: float | None = None,
) -> list[Limit]:
    """The limits of a job of so many prompts (by split), those that are reached first in front.

    `memory_gib` is the driver's, `days` what the annotators may take at their limits of requests, `bytes_of_an_image`
    what a trial has measured.
    """
    total = sum(prompts.values())
    drawn = sum(prompts.get(split, 0) for split in job.generate.splits) if job.generate else total
    each = sum(pool.images_of_a_prompt for pool in job.generate.generators) if job.generate else 0
    found = [_linear("memory of the prompts stage", "GiB", total * BYTES_A_PROMPT / _GIB, memory_gib, drawn, "")]
    if job.generate is not None:
        shards = sum(
            drawn * pool.images_of_a_prompt / (pool.batch_size * job.generate.batches_per_shard)
            for pool in job.generate.generators
        )
        rates = [_shards_a_second(pool, job.generate.batches_per_shard, gpus) for pool in job.generate.generators]
        found += [
            _linear(
                "memory of the generate stage's driver",
                "GiB",
                shards * BYTES_A_PLANNED_SHARD / _GIB,
                memory_gib,
                drawn,
                "Raise generate.batches_per_shard.",
            ),
            Limit(
                "shards a second through one driver",
                "1/s",
                max(rates),
                SHARDS_A_SECOND,
                float("inf"),
                "Raise generate.batches_per_shard; what a lost actor repeats grows with it.",
            ),
            _linear(
                "requests to list the images once",
                "requests",
                shards / NAMES_A_LISTING,
                3_600.0,
                drawn,
                "Raise generate.batches_per_shard.",
            ),
        ]
        if bytes_of_an_image is not None:
            stored = drawn * each * bytes_of_an_image / 1e12
            found.append(
                _linear("images on disk", "TB", stored, disk_tb, drawn, "Buy storage, or draw smaller images.")
            )
    if job.annotate is not None and each:
        requests = drawn * requests_of_a_prompt(job.annotate, each)
        own = requests / len(job.annotate.annotators)
        needed = (requests * BYTES_A_JUDGEMENT + drawn * each * BYTES_AN_INDEXED_IMAGE) / _GIB
        remedy = "Cut the prompts into several runs, or give the driver's node more memory."
        found.append(_linear("memory of the annotate stage's driver", "GiB", needed, memory_gib, drawn, remedy))
        for annotator in job.annotate.annotators:
            taken = paced_minutes(annotator, own) / _DAY_MINUTES
            if taken:
                remedy = "Ask for a higher tier, add accounts as further annotators, or use batches."
                found.append(_linear(f"days of requests to '{annotator.name}'", "days", taken, days, drawn, remedy))
    if job.preferences is not None and each:
        pairs = comb(each, 2) / comb(4, 2) * 4 / each if each > 1 else 0.0
        needed = drawn * each * len(ASPECTS) * BYTES_A_RATING * max(1.0, pairs) / _GIB
        remedy = "Cut the prompts into several runs, or give the driver's node more memory."
        found.append(_linear("memory of the preferences stage", "GiB", needed, memory_gib, drawn, remedy))
    return sorted((limit for limit in found if limit.needed), key=lambda limit: (not limit.breaks, limit.prompts))


def _shards_a_second(pool: GeneratorPool, batches: int, gpus: int) -> float:
    """Of all actors at the speed in the settings; 0 where none is set."""
    actors = gpus / pool.pool.gpus_per_actor if pool.pool.gpus_per_actor else pool.pool.max_actors
    return actors * (pool.images_per_second or 0.0) / (pool.batch_size * batches)


def _linear(what: str, unit: str, needed: float, available: float, prompts: int, remedy: str) -> Limit:
    reached = prompts * available / needed if needed else float("inf")
    return Limit(what, unit, needed, available, reached, remedy)
