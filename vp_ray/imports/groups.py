"""What one row of another data set says, in this package's words."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Shown:
    """One image by the name that the data set gives it."""

    name: str
    generator: str = "unknown"
    data: bytes | None = None
    """The encoded picture where the data set holds it; otherwise it is a file of that name."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """One person's rank of every image of a group; smaller is better and equal ones tie."""

    rater: str
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One person's choice between the first and the second image of a group."""

    rater: str
    preferred_first: float | None
    """1, 0, 0.5 for a tie, None for a person who passed."""
    aspect: str = "overall"
    answered_at: float | None = None


@dataclass(frozen=True, slots=True)
class Rating:
    """An image's mean level for an aspect."""

    image: int
    """Place in the group."""
    aspect: str
    level: float
    """From 1 to 5."""
    standard_error: float | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Judged:
    """One annotator's levels of all images of a group, for each image a level and rationale by aspect."""

    annotator: str
    levels: tuple[dict[str, tuple[int, str]], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Images of one prompt and what was said of them."""

    prompt: str
    images: tuple[Shown, ...]
    rankings: tuple[Ranking, ...] = ()
    choices: tuple[Choice, ...] = ()
    ratings: tuple[Rating, ...] = ()
    judgements: tuple[Judged, ...] = field(default=())
