"""Everything that should be known of a preference data set before it is published: the content of `quality.json`."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.preferences import predictors
from vp_ray.preferences.agreement import GivenLevels, people_agreement, people_drift, rating_histograms
from vp_ray.preferences.answers import Answers, answers_of_comparisons, answers_of_rankings
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.sources import Sources
from vp_ray.preferences.win_rates import generator_rates, guidance_rates
from vp_ray.records import ANNOTATED, ASPECTS, OVERALL

QUALITY: Final = "quality.json"
QUALITY_COLUMNS: Final = [
    *("prompt_id", "aspect", "image_id_a", "image_id_b"),
    *("probability_a", "margin", "same_generator", "source"),
]
"""What is read of the pairs."""


def quality(table: pa.Table, sources: Sources, settings: PreferenceSettings) -> dict[str, Any]:
    """Levels, win rates, trivial predictors, agreement and drift, of the annotated pairs and the answers behind them.

    A part that a run has nothing for is empty.
    """
    answered = table.filter(pc.and_(pc.equal(table["source"], ANNOTATED), pc.is_valid(table["margin"])))
    given = GivenLevels(sources.judgements) if sources.judgements is not None else None
    people = _people(sources)
    who = "people" if not people or sources.by_people else "annotators_choosing"
    return {
        "levels": {
            "by_annotator": given.histograms() if given else {},
            "by_generator": rating_histograms(sources.ratings) if sources.ratings is not None else {},
        },
        "generators": generator_rates(answered, sources.images),
        "guidance": guidance_rates(answered, sources.images),
        "predictors": _predictors(answered, sources, people, settings),
        "agreement": {
            "annotators": given.agreement() if given else {},
            who: {name: people_agreement(answers) for name, answers in people.items()},
        },
        "drift": (given.drift() if given else {}) | _drift(who, people),
    }


def _drift(who: str, people: dict[str, Answers]) -> dict[str, Any]:
    found = [change for answers in people.values() for change in people_drift(answers).values()]
    return {who: found[-1]} if found else {}


def _people(sources: Sources) -> dict[str, Answers]:
    found = {}
    if sources.rankings is not None:
        found["rankings"] = answers_of_rankings(sources.rankings, sources.prompts)
    if sources.comparisons is not None:
        found["choices"] = answers_of_comparisons(sources.comparisons, sources.prompts)
    return found


def _predictors(
    pairs: pa.Table, sources: Sources, people: dict[str, Answers], settings: PreferenceSettings
) -> dict[str, Any]:
    """The accuracy of each trivial predictor on the pairs of `overall`, or of the first aspect that there is."""
    known = set(pairs["aspect"].unique().to_pylist())
    aspect = next((one for one in (OVERALL, *ASPECTS) if one in known), None)
    if aspect is None:
        return {}
    pairs = pairs.filter(pc.equal(pairs["aspect"], aspect))
    chosen = predictors.chosen_prompts(pairs["prompt_id"].unique().to_pylist(), predictors.MOST_PROMPTS)
    pairs = pairs.filter(pc.is_in(pairs["prompt_id"], pa.array(sorted(chosen), pa.string())))
    rows = []
    if settings.checks.predictor_prompts:
        seen = predictors.chosen_prompts(sorted(chosen), settings.checks.predictor_prompts)
        shown = pairs.filter(pc.is_in(pairs["prompt_id"], pa.array(sorted(seen), pa.string())))
        wanted = {*shown["image_id_a"].to_pylist(), *shown["image_id_b"].to_pylist()}
        measures = predictors.measured_pictures(sources.run.source("generate") / "images", wanted)
        rows += [predictors.scored_accuracy(name, shown, scores) for name, scores in measures.items()]
    rows.append(predictors.generator_accuracy(pairs, sources.images))
    rows.append(predictors.guidance_accuracy(pairs, sources.images))
    if sources.judgements is not None:
        weights = np.array([settings.overall_weights.get(name, 0.0) for name in ASPECTS])
        rows.append(predictors.position_of_judgements(sources.judgements, weights, chosen))
    if "choices" in people:
        ids = sources.prompts["prompt_id"].to_pylist()
        places = {place for place, name in enumerate(ids) if name in chosen}
        rows.append(predictors.position_of_choices(people["choices"], places))
    return {"aspect": aspect, "prompts": len(chosen), "rows": [row for row in rows if row is not None]}
