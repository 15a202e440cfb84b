"""What the undisturbed loop makes, which every disturbed one must equal."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.chaos.machines import Machines, running_machines
from tests.chaos.rounds import Story, bill_of, stats_of, tell
from tests.chaos.schedule import STAGES
from tests.outcomes import outcome_of
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge
from vp_ray.storage import RunFolder

TOOK = "took.json"
"""The seconds of the undisturbed run."""


@dataclass(frozen=True, slots=True)
class Calm:
    """The undisturbed run: what it made, and what it and its stages took."""

    outcome: dict[str, Any]
    seconds: float
    stage_seconds: dict[str, float]

    def keep_up_with(self, run: RunFolder, disturbed: Collection[str]) -> None:
        """Takes the times of stages that another run was quicker at: the machine may be less busy than it was."""
        for stage in set(STAGES).difference(disturbed):
            self.stage_seconds[stage] = min(self.stage_seconds[stage], run.stage(stage).finished().seconds)


@pytest.fixture(scope="session")
def machines() -> Iterator[Machines]:
    """One cluster for all runs: what a run leaves behind would meet the next."""
    with running_machines(2) as found:
        yield found


@pytest.fixture(scope="session")
def calm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Kept for the next session where `VP_RAY_CHAOS_CALM` names a directory, since it takes as long as a round."""
    kept = os.environ.get("VP_RAY_CHAOS_CALM")
    run, story = RunFolder.at(kept or tmp_path_factory.mktemp("calm") / "run"), Story()
    if not run.exists(TOOK):
        with running_judge(JudgeSettings(noise=0.0, latency_seconds=0.3)) as judge:
            tell(request.getfixturevalue("machines"), run.local_path, judge, story)
            assert bill_of(run, stats_of(judge)).paid_again == 0
        run.write_json(TOOK, story.seconds)
    seconds = {stage: run.stage(stage).finished().seconds for stage in STAGES}
    return Calm(outcome_of(run), run.read_json(TOOK), seconds)


def say(request: pytest.FixtureRequest, words: str) -> None:
    """Prints at once, past pytest's capture."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{words}", flush=True)
