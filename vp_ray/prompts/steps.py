"""What the answers about prompts do to the prompts: flags, and other words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp_ray.ids import content_id
from vp_ray.maths.duplicates import NearDuplicates
from vp_ray.prompts.cleaning import normalise
from vp_ray.prompts.forms import ModerationForm, PolishForm, Prompt
from vp_ray.records import Status

Rows = list[dict[str, Any]]
Answers = Mapping[str, Mapping[str, Any]]

FLAGGED = "flagged"
UNMODERATED = "unmoderated"
POLISHED = "polished"


def first_of_clusters(texts: Sequence[str], least: float) -> NDArray[np.bool_]:
    """(N,) whether a prompt is the first of its cluster of near-duplicates; chains of them are one cluster."""
    return NearDuplicates(texts, least).clusters() == np.arange(len(texts))


def asked_about(rows: Sequence[Mapping[str, Any]]) -> list[Prompt]:
    """Prompts as models are asked about them."""
    return [Prompt(row["prompt_id"], row["prompt"]) for row in rows]


def to_polish(rows: Rows) -> Rows:
    """The prompts that may be polished: none that was flagged, and none that nobody answered for."""
    return [row for row in rows if not {FLAGGED, UNMODERATED} & set(row["flags"])]


def moderated(rows: Rows, answers: Answers, form: ModerationForm, keep: bool) -> tuple[Rows, Counter[str]]:
    """Prompts with the flags `flagged` and `flagged:CATEGORY`, or `unmoderated`, and how many have each.

    Without `keep` those prompts are left out.
    """
    kept: Rows = []
    counts: Counter[str] = Counter()
    for row, prompt in zip(rows, asked_about(rows), strict=True):
        answer = answers[form.key(prompt)]
        flags: list[str] = []
        if answer["status"] != Status.SCORED:
            flags = [UNMODERATED]
        elif answer["flagged"]:
            flags = [FLAGGED, *(f"{FLAGGED}:{category}" for category in answer["categories"])]
        counts.update(flags)
        if keep or not flags:
            kept.append({**row, "flags": [*row["flags"], *flags]})
    return kept, counts


def polished(rows: Rows, answers: Answers, form: PolishForm) -> tuple[Rows, Counter[str]]:
    """Prompts in their polished words, and counts: `polished`, `unchanged`, `polish_STATUS` where there was no answer,
    `duplicate_after_polish`, and each fault that was found.

    A prompt without an answer keeps its words and has the flag `polish_STATUS`. Ids follow the words; of prompts that
    are the same afterwards the first is kept.
    """
    may = {row["prompt_id"] for row in to_polish(rows)}
    kept: Rows = []
    counts: Counter[str] = Counter()
    seen: set[str] = set()
    for row, prompt in zip(rows, asked_about(rows), strict=True):
        text, flags = row["prompt"], list(row["flags"])
        if row["prompt_id"] in may:
            answer = answers[form.key(prompt)]
            if answer["status"] == Status.SCORED:
                written = normalise(answer["polished"])
                outcome = POLISHED if written != text else "unchanged"
                flags += [POLISHED] if written != text else []
                text = written
                counts.update(answer["faults"])
            else:
                outcome = f"polish_{answer['status']}"
                flags.append(outcome)
            counts[outcome] += 1
        if text.casefold() in seen:
            counts["duplicate_after_polish"] += 1
            continue
        seen.add(text.casefold())
        kept.append({**row, "prompt_id": content_id("prompt", text), "prompt": text, "flags": flags})
    return kept, counts
