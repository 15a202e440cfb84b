"""Personal data in prompts: mail addresses, telephone numbers and handles, replaced by words that name their kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Final

from vp_ray.prompts.config import Personal
from vp_ray.prompts.reading import RawPrompt

_MAIL: Final = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_HANDLE: Final = re.compile(r"(?<![\w@./])@[A-Za-z_][\w.]{1,29}\b")
_NUMBER: Final = re.compile(r"(?<![\w.,/:#])(?:\+|\(|0)?\d[\d()/ .-]{6,20}\d(?![\w/:]|[.,]\d)")
_NATIONAL: Final = re.compile(r"\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}")
_DECIMAL: Final = re.compile(r"\d+\.\d+")
_FEWEST_DIGITS: Final = {"+": 8, "(": 9, "0": 9}


def _is_telephone(text: str) -> bool:
    """Whether a run of digits is dialled: it begins with +, ( or 0, or is grouped 3-3-4; 15 digits are the most."""
    digits = sum(character.isdigit() for character in text)
    fewest = None if _DECIMAL.fullmatch(text) else _FEWEST_DIGITS.get(text[0])
    return digits <= 15 and (_NATIONAL.fullmatch(text) is not None or (fewest is not None and digits >= fewest))


def mask(text: str, kinds: Collection[Personal]) -> tuple[str, Counter[str]]:
    """The text with these kinds of personal data masked, and how many of each there were."""
    found: Counter[str] = Counter()

    def masked(kind: Personal) -> str:
        found[kind] += 1
        return f"[{kind}]"

    if "mail" in kinds:
        text = _MAIL.sub(lambda match: masked("mail"), text)
    if "phone" in kinds:
        text = _NUMBER.sub(lambda match: masked("phone") if _is_telephone(match[0]) else match[0], text)
    if "handle" in kinds:
        text = _HANDLE.sub(lambda match: masked("handle"), text)
    return text, found


def masked_prompts(
    prompts: Iterable[RawPrompt], kinds: Collection[Personal], counts: Counter[str]
) -> Iterator[RawPrompt]:
    """Prompts with these kinds of personal data masked and the flag `masked` where there was any; counts by kind."""
    for prompt in prompts:
        text, found = mask(prompt.text, kinds)
        counts.update(found)
        yield replace(prompt, text=text, flags=("masked",)) if found else prompt
