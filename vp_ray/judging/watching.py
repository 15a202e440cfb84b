"""Who watches the requests of an asked model: its cluster's metrics, or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class RequestWatch(Protocol):
    """Takes what becomes of questions and their requests, from the event loop that asks."""

    def asked(self, questions: int) -> None:
        """So many more questions are to be asked."""
        ...

    def ended(self) -> None:
        """One question less is to be asked, whatever became of it."""
        ...

    def left(self) -> None:
        """A request is under way."""
        ...

    def came_back(self, outcome: str, seconds: float) -> None:
        """A request came back as `answered`, or in the way of a `client.Failing`."""
        ...

    def through(self, row: Mapping[str, Any]) -> None:
        """A question has its row."""
        ...


class Unwatched:
    """Looks away."""

    def asked(self, questions: int) -> None:
        """Nothing."""

    def ended(self) -> None:
        """Nothing."""

    def left(self) -> None:
        """Nothing."""

    def came_back(self, outcome: str, seconds: float) -> None:
        """Nothing."""

    def through(self, row: Mapping[str, Any]) -> None:
        """Nothing."""
