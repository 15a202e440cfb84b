"""The words and tables that stages exchange: one Arrow schema a table, and nothing is filled in later.

prompt      what is asked for                    group       the images of one prompt that are judged together
image       one picture of a prompt              order       one permutation of a group, as shown to the annotator
judgement   one annotator's answer about images in one order: levels of 1 to 5, choices, or a status that says why not
rating      an image's mean level for an aspect, over orders and annotators
preference  two images of one prompt, an aspect, and the probability that the first is preferred (0.5 is a tie)
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import pyarrow as pa

ASPECTS: Final = ("prompt_following", "aesthetic", "fidelity", "harmlessness")
OVERALL: Final = "overall"
"""The derived aspect: the weighted mean of the four."""

LEVELS: Final = (1, 2, 3, 4, 5)


class Status(StrEnum):
    """What became of one request to an annotator. Only `SCORED` carries levels or choices."""

    SCORED = "scored"
    REFUSED = "refused"
    CONTENT_FILTERED = "content_filtered"
    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"
    TIMED_OUT = "timed_out"
    REJECTED = "rejected"
    GIVEN_UP = "given_up"


class ImageStatus(StrEnum):
    """What became of one image of the plan. Only `MADE` carries pixels; `ABSENT` ones were imported by name alone."""

    MADE = "made"
    BLANK = "blank"
    """Black all over."""
    FAILED = "failed"
    """Not finite: the model or its VAE overflowed."""
    ABSENT = "absent"
    """Of an imported data set that came without this image."""


IMAGE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""The Hugging Face `Image` layout: PNG bytes and a file name."""

PROMPTS: Final = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("prompt_raw", pa.string()),
        ("source", pa.string()),
        ("category", pa.string()),
        ("split", pa.string()),
        ("flags", pa.list_(pa.string())),
    ]
)

IMAGES: Final = pa.schema(
    [
        ("image_id", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("generator", pa.string()),
        ("scheduler", pa.string()),
        ("steps", pa.int32()),
        ("guidance_scale", pa.float32()),
        ("seed", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("status", pa.string()),
        ("flags", pa.list_(pa.string())),
        ("image", IMAGE),
    ]
)

PLAN: Final = pa.schema(
    [
        ("image_id", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("generator", pa.string()),
        ("scheduler", pa.string()),
        ("steps", pa.int32()),
        ("guidance_scale", pa.float64()),
        ("seed", pa.int64()),
        ("file", pa.string()),
    ]
)
"""What is known of an image before it is drawn, and the shard that it will be in."""

LEVEL: Final = pa.struct(
    [("image_id", pa.string()), ("aspect", pa.string()), ("level", pa.int8()), ("rationale", pa.string())]
)

CHOICE: Final = pa.struct([("aspect", pa.string()), ("preferred", pa.string()), ("rationale", pa.string())])
"""The better of two images by its id; null is a tie."""

JUDGEMENTS: Final = pa.schema(
    [
        ("judgement_id", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("mode", pa.string()),
        ("aspects", pa.list_(pa.string())),
        ("order", pa.list_(pa.string())),
        ("sample", pa.int32()),
        ("annotator", pa.string()),
        ("rubric_version", pa.string()),
        ("status", pa.string()),
        ("levels", pa.list_(LEVEL)),
        ("choices", pa.list_(CHOICE)),
        ("reply", pa.string()),
        ("error", pa.string()),
        ("request_tokens", pa.int64()),
        ("reply_tokens", pa.int64()),
        ("cost_usd", pa.float64()),
        ("latency_seconds", pa.float64()),
        ("attempts", pa.int32()),
        ("answered_at", pa.float64()),
    ]
)
"""`mode` is listwise, pointwise or pairwise and `aspects` what was asked in it; null in imports, which are listwise.
Pairwise judgements have `choices`, the others `levels`. `sample` counts the answers to one and the same request from 0.
`answered_at` is the time of the answer in seconds since 1970, null where it was not kept."""

RATINGS: Final = pa.schema(
    [
        ("image_id", pa.string()),
        ("prompt_id", pa.string()),
        ("generator", pa.string()),
        ("aspect", pa.string()),
        ("mean", pa.float64()),
        ("standard_error", pa.float64()),
        ("count", pa.int32()),
    ]
)

RANKINGS: Final = pa.schema(
    [("prompt_id", pa.string()), ("rater", pa.string()), ("image_id", pa.string()), ("rank", pa.int32())]
)
"""One person's rank of one image among those of its prompt; 1 is best and ties share a rank."""

COMPARISONS: Final = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("rater", pa.string()),
        ("aspect", pa.string()),
        ("image_id_a", pa.string()),
        ("image_id_b", pa.string()),
        ("preferred_a", pa.float64()),
        ("answered_at", pa.float64()),
    ]
)
"""One person's choice between two images of a prompt, a shown first: 1, 0, 0.5 for a tie, null for an abstention."""

PREFERENCES: Final = pa.schema(
    [
        ("preference_id", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("aspect", pa.string()),
        ("image_id_a", pa.string()),
        ("image_id_b", pa.string()),
        ("probability_a", pa.float64()),
        ("margin", pa.float64()),
        ("weight", pa.float64()),
        ("same_generator", pa.bool_()),
        ("split", pa.string()),
        ("source", pa.string()),
    ]
)
"""`margin` is positive where the first image is better, in levels, mean ranks or log-strengths, and null where there is
no answer. `source` tells annotated pairs from those whose order is known by construction."""

ANNOTATED: Final = "annotated"
SELF_SUPERVISED: Final = "self_supervised"

BASE: Final = "base"
TUNED: Final = "tuned"
"""The generators of the evaluation's images."""

SCORES: Final = pa.schema(
    [
        ("image_id", pa.string()),
        ("prompt_id", pa.string()),
        ("seed", pa.int64()),
        ("generator", pa.string()),
        ("scorer", pa.string()),
        ("aspect", pa.string()),
        ("score", pa.float64()),
    ]
)
"""What one scorer gave one image of the evaluation; images of the same prompt and seed are compared."""

COMPARISON: Final = pa.schema(
    [
        ("scorer", pa.string()),
        ("unit", pa.string()),
        ("aspect", pa.string()),
        ("base", pa.float64()),
        ("tuned", pa.float64()),
        ("gain", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("wins", pa.int64()),
        ("ties", pa.int64()),
        ("losses", pa.int64()),
        ("prompts", pa.int64()),
        ("pairs", pa.int64()),
        ("p_value", pa.float64()),
        ("p_adjusted", pa.float64()),
        ("detectable", pa.float64()),
    ]
)
"""The tuned model against its base: means over pairs, the gain's 95 % interval by prompts, and prompts won or lost.

`unit` is "level" for a judge (1 to 5) and "score" for VP-Score. `p_value` is the sign test over prompts, `p_adjusted`
the same after Holm's correction for all rows of the table."""
