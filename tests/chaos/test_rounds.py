"""The whole loop, twenty times, while machines, processes and the judge's API fail at random moments.

`VP_RAY_CHAOS_ROUNDS` and `VP_RAY_CHAOS_SEED` change how many and which; `VP_RAY_CHAOS_FIRST` begins with a later one.
The table is printed at the end, and put into the document `VP_RAY_CHAOS_PAGE` where that is set.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.conftest import Calm, say
from tests.chaos.machines import Machines
from tests.chaos.rounds import bill_of, stats_of, tell
from tests.chaos.schedule import TITLES, dealt_kinds, failing_judge, losses_of
from tests.chaos.table import Note, put_into, table
from tests.outcomes import differing, outcome_of, repeated_rows
from vp_ray.shapeworld.judge_server import running_judge
from vp_ray.storage import RunFolder

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7200)]

ROUNDS = int(os.environ.get("VP_RAY_CHAOS_ROUNDS", "20"))
FIRST = int(os.environ.get("VP_RAY_CHAOS_FIRST", "0"))
SEED = int(os.environ.get("VP_RAY_CHAOS_SEED", "0"))
LOSSES = 3
"""Of each round."""
ENDS_WITH_A_RUN = ("actor", "worker", "replica", "train controller")
"""Processes that belong to one run; the limiter and Serve's controller belong to the cluster."""
_END_SECONDS = 45.0
"""Ray gives an actor whose driver has ended 30 s to end by itself, and then kills it."""


@pytest.fixture(scope="module")
def notes(request: pytest.FixtureRequest) -> Iterator[list[Note]]:
    """What is told of each round, from which the table is made."""
    told: list[Note] = []
    yield told
    if told:
        words = table(told, SEED)
        say(request, words)
        if page := os.environ.get("VP_RAY_CHAOS_PAGE"):
            put_into(Path(page), words)


@pytest.mark.parametrize("number", range(FIRST, FIRST + ROUNDS))
def test_a_run_through_random_losses_ends_as_an_undisturbed_one(
    machines: Machines, calm: Calm, notes: list[Note], request: pytest.FixtureRequest, tmp_path: Path, number: int
) -> None:
    kinds = dealt_kinds(SEED, number + 1, LOSSES)[number]
    losses = losses_of(random.Random(f"{SEED}/{number}"), kinds)
    planned = ", ".join(f"{loss.kind} at {loss.share:.0%} of {loss.stage}" for loss in losses)
    say(request, f"round {number} of seed {SEED}: {planned}")
    run, note = RunFolder.at(tmp_path / "run"), Note(number, calm.seconds)
    notes.append(note)
    with running_judge(failing_judge(SEED + number)) as judge:
        tell(machines, run.local_path, judge, note.story, losses, calm.stage_seconds)
        stats = stats_of(judge)
    calm.keep_up_with(run, [one.stage for one in note.story.struck])
    note.faults, note.bill = stats["faults"], bill_of(run, stats)
    problems = [f"{name} has a row twice" for name in repeated_rows(run)]
    problems += [f"{name} differs" for name in differing(outcome_of(run), calm.outcome)]
    if note.bill.paid_again > note.story.in_flight:
        problems.append(f"{note.bill.paid_again} answers were paid for again, {note.story.in_flight} were under way")
    if any(one.recovered_seconds is None for one in note.story.struck):
        problems.append("the run did not go on after a loss")
    problems += [f"a {kind} outlives the run" for kind in left_over(machines)]
    note.passed = not problems
    say(request, f"round {number}: {note.story.seconds:.0f} s, {problems or 'as undisturbed'}, {note}")
    assert not problems, problems


def left_over(machines: Machines) -> list[str]:
    """The kinds of processes of a run that are still there a while after its end."""
    deadline = time.monotonic() + _END_SECONDS
    while True:
        found = [kind for kind in ENDS_WITH_A_RUN if machines.processes(TITLES[kind])]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)
