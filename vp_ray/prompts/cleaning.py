"""Prompts that are kept, one row each, and counts of those that are not."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, Final

from vp_ray.ids import content_id, uniform_from
from vp_ray.prompts.config import PromptSettings
from vp_ray.prompts.reading import RawPrompt

_NAME_BYTES: Final = 12
"""Of what prompts are told apart by: as many as in their ids."""


def normalise(text: str) -> str:
    """The prompt in Unicode NFKC, without control characters, each run of white space as one space."""
    # Of ASCII text nothing changes but what cannot be printed.
    if not (text.isascii() and text.isprintable()):
        composed = unicodedata.normalize("NFKC", text)
        text = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in composed)
    return " ".join(text.split())


def cleaned(prompts: Iterable[RawPrompt], settings: PromptSettings, counts: Counter[str]) -> Iterator[dict[str, Any]]:
    """Rows of `records.PROMPTS`, one after the other; counts how many prompts were kept or dropped as empty, too short,
    too long or duplicate.

    Two prompts are duplicates when they agree after normalising, whatever their case; the first is kept. Some 100 bytes
    are held for each prompt that is kept.
    """
    seen: set[bytes] = set()
    for raw in prompts:
        text = normalise(raw.text)
        key = text.casefold()
        name = blake2b(key.encode(errors="surrogatepass"), digest_size=_NAME_BYTES).digest()
        if not text:
            counts["empty"] += 1
        elif len(text) < settings.min_characters:
            counts["too_short"] += 1
        elif len(text) > settings.max_characters:
            counts["too_long"] += 1
        elif name in seen:
            counts["duplicate"] += 1
        else:
            counts["kept"] += 1
            seen.add(name)
            held_out = uniform_from("prompt-split", key) < settings.held_out_share
            yield {
                "prompt_id": content_id("prompt", text),
                "prompt": text,
                "prompt_raw": raw.text,
                "source": raw.source,
                "category": raw.category,
                "split": raw.split or ("held_out" if held_out else "train"),
                "flags": [*raw.flags, *([] if text == raw.text else ["normalised"])],
            }


def clean(prompts: Iterable[RawPrompt], settings: PromptSettings) -> tuple[list[dict[str, Any]], Counter[str]]:
    """All rows of `cleaned`, and the counts."""
    counts: Counter[str] = Counter()
    return list(cleaned(prompts, settings, counts)), counts
