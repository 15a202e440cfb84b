"""Numbers as a reader expects them: a true minus sign, thousands separated, units that fit the size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

MINUS: Final = "\N{MINUS SIGN}"
MISSING: Final = "\N{EN DASH}"
"""What stands where there is no number."""

_KIB: Final = 1024


def is_number(value: Any) -> bool:
    """Whether this is a finite number; booleans are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, digits: int = 2) -> str:
    """`1,234.50`; a dash for what is no finite number."""
    if not is_number(value):
        return MISSING
    text = f"{value:,.{digits}f}"
    if not any(character in "123456789" for character in text):
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: Any, digits: int = 2) -> str:
    """`+0.21`, `−0.21` or `0.00`."""
    text = number(value, digits)
    positive = is_number(value) and value > 0 and any(character in "123456789" for character in text)
    return f"+{text}" if positive else text


def count(value: Any) -> str:
    """`12,345`."""
    return number(value, 0)


def share(value: Any, digits: int = 1) -> str:
    """`93.1 %` of a share of 0..1, on one line."""
    return f"{number(100 * value, digits)}\N{NO-BREAK SPACE}%" if is_number(value) else MISSING


def probability(value: Any) -> str:
    """`99.7 %`; a probability below one that would round to certainty is `> 99.9 %`."""
    certain = is_number(value) and 0.9995 <= value < 1
    return f"> {share(0.999)}" if certain else share(value)


def seconds(value: Any) -> str:
    """`8.2 s`, `3 min 12 s` or `5 h 02 min`."""
    if not is_number(value):
        return MISSING
    if value < 59.95:
        return f"{number(value, 1)} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def usd(value: Any) -> str:
    """`$12.40`; four digits below one dollar; a dash where nothing was paid."""
    if not is_number(value) or value == 0:
        return MISSING
    return f"${number(value, 2 if value >= 1 else 4)}"


def size(value: int) -> str:
    """`512 B`, `3.1 KiB` or `1.2 MiB`."""
    amount, unit = float(value), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < _KIB:
            break
        amount, unit = amount / _KIB, larger
    return f"{number(amount, 0 if unit == 'B' else 1)} {unit}"


def words(name: str) -> str:
    """A key as words: `prompt_following` as `prompt following`."""
    return name.replace("_", " ")


def sentence_case(name: str) -> str:
    """A key as words that can begin a heading: `Prompt following`."""
    text = words(name)
    return text[:1].upper() + text[1:]


FILTERS: Final[dict[str, Callable[..., str]]] = {
    "number": number,
    "signed": signed,
    "count": count,
    "share": share,
    "probability": probability,
    "seconds": seconds,
    "usd": usd,
    "size": size,
    "words": words,
    "sentence_case": sentence_case,
}
"""The filters of the templates."""
