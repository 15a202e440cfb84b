"""Choices between two images out of pairwise judgements, in the form in which people's choices are kept too."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from vp_ray.records import ASPECTS, COMPARISONS, Status


def comparisons_of(judgements: pa.Table) -> pa.Table:
    """`records.COMPARISONS`: a row for each judgement and aspect that it asked about, with the image shown first as a.

    A judgement without an answer abstains.
    """
    columns = ("prompt_id", "annotator", "status", "order", "aspects", "choices", "answered_at")
    rows: list[dict[str, Any]] = []
    for judgement in judgements.select(columns).to_pylist():
        first, second = judgement["order"]
        said = {choice["aspect"]: choice["preferred"] for choice in judgement["choices"] or ()}
        for aspect in judgement["aspects"] or ASPECTS:
            preferred = None
            if judgement["status"] == Status.SCORED:
                preferred = 0.5 if said[aspect] is None else float(said[aspect] == first)
            rows.append(
                {
                    "prompt_id": judgement["prompt_id"],
                    "rater": judgement["annotator"],
                    "aspect": aspect,
                    "image_id_a": first,
                    "image_id_b": second,
                    "preferred_a": preferred,
                    "answered_at": judgement["answered_at"],
                }
            )
    return pa.Table.from_pylist(rows, schema=COMPARISONS)
