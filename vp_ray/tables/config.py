"""Settings of a file of tables: the runs behind them, each once a seed, and what is laid out of these runs."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import Field, field_validator, model_validator

from vp_ray.config import Settings

RUNS: Final = "{runs}"
"""Stands in settings of runs for the folder of the seed's runs."""
_FIRST: Final = "prompts"


class TableRunSettings(Settings):
    """One run of each seed: the job with changes, which may take finished stages over from another run."""

    of: str | None = None
    """The run that this one branches from, with its changes; none starts from the job itself."""
    first: str = _FIRST
    """Its first own stage; those before it are taken over from `of`, and made only once."""
    until: str = "evaluate"
    """Its last stage."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Changes by dotted key, as `--set` has them; a value may name another run of its seed as `{runs}/NAME`."""
    without: tuple[str, ...] = ()
    """Sections of the job that this run leaves out."""

    @model_validator(mode="after")
    def _takes_from_somewhere(self) -> TableRunSettings:
        if self.of is None and self.first != _FIRST:
            raise ValueError("first has no effect without `of`, the run whose stages are taken over")
        return self


class TestSetSettings(Settings):
    """Pairs with labels: those of a run of this file, or of one that was made elsewhere."""

    __test__ = False
    """pytest would take a class of this name for a test."""

    run: str | None = None
    """A run of this file, of each seed its own."""
    path: str | None = None
    """A finished run elsewhere, the same for all seeds: people's choices, imported."""
    split: str | None = None
    """Only pairs of prompts of this split."""
    same_generator: bool | None = None
    """Only pairs within one generator (true) or across two (false)."""

    @model_validator(mode="after")
    def _lies_somewhere(self) -> TestSetSettings:
        if (self.run is None) == (self.path is None):
            raise ValueError("a test set is a `run` of this file or the `path` of another, one of the two")
        return self


class AccuracyTableSettings(Settings):
    """How often scorers prefer what the labels prefer: a row a scorer, a column a test set."""

    title: str
    """The heading."""
    tests: dict[str, TestSetSettings] = Field(min_length=1)
    """The columns by name."""
    scorers: dict[str, str] = Field(min_length=1)
    """The rows by name: `RUN` is the VP-Score of a run of this file, `RUN/VARIANT` one of its variants, and anything
    else a scorer as `vp-ray score` takes it (`imagereward:ImageReward.pt`), the same for all seeds."""
    against: str | None = None
    """The row that the others are compared with on the same pairs."""
    floors: bool = False
    """Adds rows that know nothing of the prompt: sharpness, file size, and how often the image's generator wins."""
    aspect: str = "overall"
    """The aspect whose pairs are compared."""

    @model_validator(mode="after")
    def _compared_row_is_there(self) -> AccuracyTableSettings:
        if self.against is not None and self.against not in self.scorers:
            raise ValueError(f"against names '{self.against}', which is no row")
        return self


class WinTableSettings(Settings):
    """Which method's images win: a row a method, a column a set of prompts."""

    title: str
    """The heading."""
    methods: dict[str, str] = Field(min_length=1)
    """The rows by name: the run that was tuned. All must draw the same prompts from the same seeds."""
    base: str = "base"
    """The name of the model before tuning, which is a row, too."""
    scorer: str = "oracle"
    """Who decides: a judge or scorer of the evaluations."""
    aspect: str = "overall"
    """In which aspect."""
    splits: dict[str, str] = Field(min_length=1)
    """The columns: prompts of a split, by name."""

    @model_validator(mode="after")
    def _base_is_no_method(self) -> WinTableSettings:
        if self.base in self.methods:
            raise ValueError(f"'{self.base}' is the base model and cannot be a method, too")
        return self


class ConditionTableSettings(Settings):
    """Whether gains hold for images that are drawn in other ways than in training: a row a way, a column a method."""

    title: str
    """The heading."""
    methods: dict[str, str] = Field(min_length=1)
    """The columns by name: runs whose `evaluate.conditions` are the rows."""
    scorer: str = "oracle"
    """Who decides: a judge, with `evaluate.judge_conditions`, or a scorer."""


class TablesSettings(Settings):
    """Runs and the tables that are laid out of them."""

    folder: str
    """Where runs and tables lie."""
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """Every run is made once with each of these."""
    seeded: tuple[str, ...] = Field(min_length=1)
    """Keys of the job that take the seed; those of sections that a run leaves out are passed over."""
    job: dict[str, Any]
    """The job that all runs start from: the sections of a job file, without `run`."""
    runs: dict[str, TableRunSettings] = Field(min_length=1)
    """The runs by name, in the order in which they are made."""
    accuracy: tuple[AccuracyTableSettings, ...] = ()
    """Tables of scorers."""
    wins: tuple[WinTableSettings, ...] = ()
    """Tables of tuned models."""
    conditions: tuple[ConditionTableSettings, ...] = ()
    """Tables of their gains in other ways of drawing."""

    @field_validator("runs")
    @classmethod
    def _names_are_folders(cls, runs: dict[str, TableRunSettings]) -> dict[str, TableRunSettings]:
        known: set[str] = set()
        for name, run in runs.items():
            if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
                raise ValueError(f"'{name}' cannot name a folder; use letters, digits, '-', '_' and '.'")
            if run.of is not None and run.of not in known:
                raise ValueError(f"'{name}' branches from '{run.of}', which is no run above it")
            known.add(name)
        return runs

    @model_validator(mode="after")
    def _tables_name_runs(self) -> TablesSettings:
        if "run" in self.job:
            raise ValueError("job.run has no effect: runs lie in `folder`")
        if not self.accuracy and not self.wins and not self.conditions:
            raise ValueError("nothing would be laid out; give accuracy, wins or conditions a table")
        named = [(table.title, test.run) for table in self.accuracy for test in table.tests.values() if test.run]
        named += [(table.title, run) for table in self.wins for run in table.methods.values()]
        named += [(table.title, run) for table in self.conditions for run in table.methods.values()]
        for title, run in named:
            if run not in self.runs:
                raise ValueError(f"the table '{title}' names '{run}', which is no run")
        return self
