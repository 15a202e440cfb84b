"""A run's preferences as a test set for scorers: pairs, pictures and what people made of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, UnidentifiedImageError

from vp_ray.errors import InputError
from vp_ray.maths.one_rater import Vote, votes_of_comparisons, votes_of_rankings
from vp_ray.models.picture_scorer import PictureScorer
from vp_ray.models.rewards import check_scores
from vp_ray.records import ANNOTATED, OVERALL, ImageStatus
from vp_ray.storage import RunFolder

_READ_AT_ONCE: Final = 32


@dataclass(frozen=True, slots=True)
class TestSet:
    """Labelled pairs of one aspect whose pictures are there."""

    __test__ = False
    """pytest would take a class of this name for a test."""

    name: str
    aspect: str
    pairs: tuple[Mapping[str, Any], ...]
    """Rows of `records.PREFERENCES`."""
    without_pictures: int
    """Pairs that were left out because a picture is not there."""
    generators: Mapping[str, str | None]
    """What made each image; None where nobody knows."""
    votes: tuple[Vote, ...]
    """What single people chose; empty where that is not known."""
    folder: RunFolder

    def pictures(self) -> Iterator[list[tuple[str, str, bytes]]]:
        """(image_id, prompt, encoded bytes) of every image of the pairs once, some at a time."""
        wanted = pa.array(sorted({row[side] for row in self.pairs for side in ("image_id_a", "image_id_b")}))
        images = self.folder.source("generate").read_table("images", columns=["image_id", "prompt", "image"])
        images = images.filter(pc.is_in(images["image_id"], wanted))
        seen: set[str] = set()
        for batch in images.to_batches(max_chunksize=_READ_AT_ONCE):
            rows = [row for row in batch.to_pylist() if row["image_id"] not in seen]
            seen.update(row["image_id"] for row in rows)
            yield [(row["image_id"], row["prompt"], row["image"]["bytes"]) for row in rows]


def read_test_set(name: str, place: str, aspect: str) -> TestSet:
    """The annotated pairs of a finished run, whichever split they are of; raises `InputError` where none is left."""
    run = RunFolder.at(place)
    table = run.stage("preferences").read_table("preferences.parquet")
    table = table.filter(pc.and_(pc.equal(table["aspect"], aspect), pc.greater(table["weight"], 0)))
    rows = [row for row in table.to_pylist() if row["source"] in (ANNOTATED, None)]
    images = run.source("generate").read_table("images", columns=["image_id", "generator", "status"]).to_pylist()
    made = {row["image_id"]: row["generator"] or None for row in images if row["status"] == ImageStatus.MADE}
    pairs = tuple(row for row in rows if row["image_id_a"] in made and row["image_id_b"] in made)
    if not pairs:
        raise InputError(
            f"{len(rows)} pairs are labelled for '{aspect}', none of them with both pictures",
            "Give a run whose preferences are finished and whose pictures were imported.",
            place,
        )
    return TestSet(name, aspect, pairs, len(rows) - len(pairs), made, _votes(run, aspect), run)


def _votes(run: RunFolder, aspect: str) -> tuple[Vote, ...]:
    source = run.stage("import")
    found: list[Vote] = []
    if source.exists("rankings.parquet") and aspect == OVERALL:
        found += votes_of_rankings(source.read_table("rankings.parquet").to_pylist())
    if source.exists("comparisons.parquet"):
        found += votes_of_comparisons(source.read_table("comparisons.parquet").to_pylist(), aspect)
    return tuple(found)


def scored(scorer: PictureScorer, test: TestSet) -> dict[str, float]:
    """By image the scorer's score: of the test set's aspect where it has that, else overall."""
    found: dict[str, float] = {}
    for rows in test.pictures():
        pictures = [_picture(image_id, data) for image_id, _, data in rows]
        scores = check_scores(
            scorer.score_pictures(pictures, [prompt for _, prompt, _ in rows]), len(rows), scorer.aspects
        )
        own = test.aspect in scorer.aspects
        values = scores[:, scorer.aspects.index(test.aspect)] if own else scorer.overall(scores)
        found |= {image_id: float(value) for (image_id, _, _), value in zip(rows, values, strict=True)}
    return found


def measured(measures: Mapping[str, Callable[[bytes], float]], test: TestSet) -> dict[str, dict[str, float]]:
    """By measure and image what each measure makes of the encoded pictures."""
    found: dict[str, dict[str, float]] = {name: {} for name in measures}
    for rows in test.pictures():
        for name, measure in measures.items():
            found[name].update({image_id: measure(data) for image_id, _, data in rows})
    return found


def generators_wins(test: TestSet) -> dict[str, float] | None:
    """By image how often its generator wins on the other prompts; None where generators are not known."""
    made = test.generators
    if any(made[row[side]] is None for row in test.pairs for side in ("image_id_a", "image_id_b")):
        return None
    wins: dict[tuple[str, str], list[float]] = {}
    prompts: dict[str, str] = {}
    for row in test.pairs:
        first, second = row["image_id_a"], row["image_id_b"]
        prompts[first] = prompts[second] = row["prompt_id"]
        if made[first] != made[second]:
            for image, won in ((first, row["probability_a"]), (second, 1 - row["probability_a"])):
                wins.setdefault((str(made[image]), row["prompt_id"]), []).append(float(won > 0.5) + (won == 0.5) / 2)
    totals: dict[str, tuple[float, int]] = {}
    for (generator, _), won in wins.items():
        total, count = totals.get(generator, (0.0, 0))
        totals[generator] = (total + sum(won), count + len(won))

    def elsewhere(image: str) -> float:
        total, count = totals.get(str(made[image]), (0.0, 0))
        here = wins.get((str(made[image]), prompts[image]), [])
        return (total - sum(here)) / (count - len(here)) if count > len(here) else 0.5

    return {image: elsewhere(image) for image in prompts}


def _picture(image_id: str, data: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise InputError(f"the picture cannot be read ({error})", "Import the data set anew.", image_id) from None


def differences(
    scores: Mapping[str, float], pairs: Iterable[Mapping[str, Any]]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any], Sequence[str]]:
    """Scores of the first and of the second image, labels and prompts of the pairs, (N,) each."""
    rows = list(pairs)
    columns = [[scores[row[side]] for row in rows] for side in ("image_id_a", "image_id_b")]
    labels = np.array([row["probability_a"] for row in rows], np.float64)
    return np.array(columns[0]), np.array(columns[1]), labels, [row["prompt_id"] for row in rows]
