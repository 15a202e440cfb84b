"""Prompts that are kept, one row each, and counts of those that are not."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

from vp_ray.ids import content_id, uniform_from
from vp_ray.prompts.config import PromptSettings
from vp_ray.prompts.reading import RawPrompt


def normalise(text: str) -> str:
    """The prompt in Unicode NFKC, without control characters, each run of white space as one space."""
    composed = unicodedata.normalize("NFKC", text)
    visible = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in composed)
    return " ".join(visible.split())


def clean(prompts: Iterable[RawPrompt], settings: PromptSettings) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows of `records.PROMPTS` and how many prompts were kept or dropped as empty, too short, too long or duplicate.

    Two prompts are duplicates when they agree after normalising, whatever their case; the first is kept.
    """
    rows: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    seen: set[str] = set()
    for raw in prompts:
        text = normalise(raw.text)
        key = text.casefold()
        if not text:
            outcome = "empty"
        elif len(text) < settings.min_characters:
            outcome = "too_short"
        elif len(text) > settings.max_characters:
            outcome = "too_long"
        elif key in seen:
            outcome = "duplicate"
        else:
            outcome = "kept"
            seen.add(key)
            held_out = uniform_from("prompt-split", key) < settings.held_out_share
            rows.append(
                {
                    "prompt_id": content_id("prompt", text),
                    "prompt": text,
                    "prompt_raw": raw.text,
                    "source": raw.source,
                    "category": raw.category,
                    "split": raw.split or ("held_out" if held_out else "train"),
                    "flags": [*raw.flags, *([] if text == raw.text else ["normalised"])],
                }
            )
        counts[outcome] += 1
    return rows, counts
