"""Names and random numbers that depend on content alone, never on position, rank or process."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any, Final

_SEPARATOR: Final = b"\x1f"


def _digest(parts: tuple[str | int | float | bytes, ...], size: int) -> bytes:
    hasher = blake2b(digest_size=size)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        hasher.update(len(data).to_bytes(8, "big") + data + _SEPARATOR)
    return hasher.digest()


def content_id(*parts: str | int | float | bytes) -> str:
    """24 hexadecimal digits (96 bits of BLAKE2b) that name this content."""
    return _digest(parts, 12).hex()


def seed_from(*parts: str | int | float | bytes) -> int:
    """A seed in [0, 2**63) for a random generator, fixed by the parts."""
    return int.from_bytes(_digest(parts, 8), "big") >> 1


def uniform_from(*parts: str | int | float | bytes) -> float:
    """A number in [0, 1), uniform over contents and fixed by the parts."""
    return (int.from_bytes(_digest(parts, 8), "big") >> 11) / 2**53


def fingerprint(value: Any) -> str:
    """24 hexadecimal digits that name a JSON value, whatever the order of its keys."""
    return content_id(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str))
