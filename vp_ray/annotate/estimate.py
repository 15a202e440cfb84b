"""What the annotate stage will take, before its first call: requests, tokens, dollars and hours, by annotator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.annotate.batches import under_way
from vp_ray.annotate.config import AnnotateSettings
from vp_ray.annotate.planning import Planned, index_images, plan, shards
from vp_ray.errors import SettingsError
from vp_ray.judging.config import AnnotatorSettings
from vp_ray.judging.ledger import answered, read_ledger
from vp_ray.judging.prices import price_of
from vp_ray.judging.requests import message
from vp_ray.judging.rubric import Rubric
from vp_ray.pictures import ImageReader
from vp_ray.storage import RunFolder

_SAMPLES: Final = 16
_TOKENS_OF_AN_OPINION: Final = 28
"""A rationale of one short sentence, a level and the marks around them."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one annotator is still to be asked, and what that takes."""

    annotator: str
    requests: int
    request_tokens: int
    reply_tokens: int
    cost_usd: float | None
    """None where the price is not known."""
    hours: float | None
    """None where no rate is set, or where batches take up to a day each."""


def estimate(settings: AnnotateSettings, run: RunFolder, tier: tuple[float, float] | None = None) -> list[Estimate]:
    """What is neither in the ledger nor under way in a batch, with tokens by a sample of the very requests to be sent.

    `tier` is requests and tokens a minute instead of each annotator's own. Raises `StorageError` while there are no
    images.
    """
    rubric, images = Rubric.load(settings.rubric, settings.mode), run.source("generate") / "images"
    ledger = (run.stage("annotate") / "ledger").make()
    index, kept = index_images(images), read_ledger(ledger)
    done = answered(ledger) | under_way(settings, run.stage("annotate"))
    by_annotator: dict[str, list[Planned]] = {item.name: [] for item in settings.annotators}
    for item in plan(index, settings, rubric):
        if item.judgement_id not in done:
            by_annotator[item.annotator].append(item)
    reader = ImageReader(images)
    found = []
    for annotator in settings.annotators:
        planned = by_annotator[annotator.name]
        # An odd step meets every aspect and order, which come in turns.
        sample = planned[:: max(1, len(planned) // _SAMPLES) | 1][:_SAMPLES]
        tokens = _mean([_tokens(item, annotator, rubric, index, reader) for item in sample])
        reply = _reply_tokens(annotator, sample, kept)
        price = price_of(annotator)
        if price is not None and annotator.batch is not None:
            price = price.batched
        found.append(
            Estimate(
                annotator.name,
                len(planned),
                round(len(planned) * tokens),
                round(len(planned) * reply),
                None if price is None else len(planned) * price.cost_usd(round(tokens), round(reply)),
                None
                if annotator.batch is not None
                else _hours(len(planned), tokens + annotator.max_reply_tokens, tier or _own_tier(annotator)),
            )
        )
    return found


def read_tier(text: str) -> tuple[float, float]:
    """Requests and tokens a minute of `10000/30000000`; 0 is no limit. Raises `SettingsError` for anything else."""
    if not re.fullmatch(r"\d+/\d+", text):
        raise SettingsError(f"'{text}' is no tier", "Give requests and tokens a minute: 10000/30000000.", "--tier")
    requests, tokens = text.split("/")
    return float(requests), float(tokens)


def _tokens(item: Planned, annotator: AnnotatorSettings, rubric: Rubric, index: pa.Table, reader: ImageReader) -> float:
    (shard,) = shards([item], (), index, 1)
    pictures = {image_id: reader.read(*shard["images"][image_id]) for image_id in item.order}
    return float(message(item.question(pictures), rubric, annotator).tokens)


def _reply_tokens(annotator: AnnotatorSettings, sample: Sequence[Planned], kept: pa.Table) -> float:
    """As its answers so far had them; else by the number of opinions."""
    own = kept.filter(pc.and_(pc.equal(kept["annotator"], annotator.name), pc.greater(kept["reply_tokens"], 0)))
    if own.num_rows:
        return float(pc.mean(own["reply_tokens"]).as_py())
    return _mean([_TOKENS_OF_AN_OPINION * _opinions(item) for item in sample])


def _opinions(item: Planned) -> int:
    """One an aspect, of each image or of the pair."""
    return len(item.asked.aspects) * (1 if item.asked.mode == "pairwise" else len(item.order))


def _own_tier(annotator: AnnotatorSettings) -> tuple[float, float]:
    return float(annotator.requests_per_minute), float(annotator.tokens_per_minute)


def _hours(requests: int, tokens: float, tier: tuple[float, float]) -> float | None:
    """Providers count a request's tokens and the most that its reply may have."""
    minutes = [amount / limit for amount, limit in zip((requests, requests * tokens), tier, strict=True) if limit]
    return max(minutes) / 60.0 if minutes else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
