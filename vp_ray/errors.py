"""Errors that a user can act on: each says what is wrong, where, and what to do.

All arguments go to `Exception.__init__` and the sentence is built in `__str__`, so that every error survives
pickling and comes back whole from a worker process.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from vp_ray.redaction import redact


class VpRayError(Exception):
    """Base of all errors that this package raises on purpose; the command line shows it without a traceback."""

    def __init__(self, problem: str, remedy: str = "", where: str = "") -> None:
        super().__init__(problem, remedy, where)
        self.problem = problem
        self.remedy = remedy
        self.where = where

    def __str__(self) -> str:
        problem = f"{self.where}: {self.problem}" if self.where else self.problem
        problem = problem.rstrip(".")
        # What others said is in many sentences, and they may have been given a key.
        return redact(f"{problem}. {self.remedy}" if self.remedy else f"{problem}.")


class SettingsError(VpRayError):
    """A settings file, an override or a combination of settings cannot be used."""


class InputError(VpRayError):
    """A file, row or image that was given cannot be used."""


class StorageError(VpRayError):
    """Reading or writing a run directory failed, or what it holds does not fit this run."""


class AnnotatorError(VpRayError):
    """The annotator cannot be used at all: wrong key, unknown model, not reachable, quota used up."""


class BudgetError(VpRayError):
    """The next request could pass the budget; what is paid for is kept."""


class ClusterError(VpRayError):
    """Ray cannot be reached or lacks the resources that a stage asks for."""


class CheckpointError(VpRayError):
    """A checkpoint is missing, incomplete or of another shape."""


class RewardError(VpRayError):
    """A reward did not come or is not a number; it is never replaced by one."""


class NumericsError(VpRayError):
    """A quantity that must hold by construction does not."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'epochs'?)` where one of the known names is near; nothing otherwise."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
