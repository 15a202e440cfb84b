"""Hosts in network namespaces, one of which is cut off from the others for 20 seconds while it works for a run."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.conftest import Calm, say
from tests.chaos.hosts import Hosts, running_hosts, why_not
from tests.chaos.machines import EAGER
from tests.chaos.rounds import ACTORS, CONCURRENCY, arguments, bill_of, stats_of
from tests.chaos.schedule import TITLES
from tests.end_to_end.driver import Driver
from tests.outcomes import differing, outcome_of, repeated_rows
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge
from vp_ray.storage import RunFolder

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600), pytest.mark.usefixtures("namespaces")]

CUT_SECONDS = 20.0
TAKEN_FOR_DEAD = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 5,
}
"""The cluster gives the host up while it is cut off; it comes back as a stranger."""
WAITED_FOR = {"health_check_timeout_ms": 30_000}
"""The cluster still counts on the host when it comes back."""

KEY = "VP_RAY_CHAOS_KEY"
KEYS = [
    word for models in ("annotate.annotators", "evaluate.judges") for word in ("--set", f"{models}.0.api_key_env={KEY}")
]
"""The judge is reached over the network, and so asks for a key."""

Begun = Callable[[Path], bool]


def asking(run: Path) -> bool:
    """Whether the first answers are there."""
    return any(file.stat().st_size for file in run.glob("annotate/ledger/*.jsonl"))


def training(run: Path) -> bool:
    """Whether the fine-tuning has begun."""
    return (run / "rl" / "metrics.jsonl").exists()


@pytest.fixture(scope="module")
def namespaces() -> None:
    """Skips, out loud, where there can be no hosts."""
    if reason := why_not():
        pytest.skip(reason)


@pytest.mark.parametrize(
    ("stage", "begun", "title", "config"),
    [
        ("annotate", asking, TITLES["actor"], TAKEN_FOR_DEAD),
        ("rl", training, TITLES["worker"], TAKEN_FOR_DEAD),
        ("rl", training, TITLES["worker"], WAITED_FOR),
    ],
    ids=["annotate-given_up", "rl-given_up", "rl-waited_for"],
)
def test_a_run_whose_host_was_cut_off_ends_as_an_undisturbed_one(
    calm: Calm,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    begun: Begun,
    title: str,
    config: dict[str, int],
) -> None:
    run = RunFolder.at(tmp_path / "run")
    # A head asks for a token where its user has one, and nodes show it only when they are told to.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv(KEY, secrets.token_hex(32))
    with running_hosts(2, json.dumps(EAGER | config)) as hosts:
        settings = JudgeSettings(host=hosts.bridge_address, api_key=os.environ[KEY], noise=0.0, latency_seconds=0.3)
        with running_judge(settings) as judge:
            words = [*arguments(run.local_path, hosts.address, judge), *KEYS]
            with Driver(words, hosts.on_head()) as driver:
                cut = cut_off_once(hosts, driver, lambda: begun(run.local_path), title)
                ended = driver.ended()
            bill = bill_of(run, stats_of(judge))
        say(request, f"host {cut} was cut off in {stage}: {ended.seconds:.0f} s, {hosts.restarts} restarts")
    assert ended.code == 0, ended.out + ended.err
    assert not repeated_rows(run)
    assert not differing(outcome_of(run), calm.outcome)
    # What is under way is lost twice: when the cable is pulled, and when the actors on that host, which ask again as
    # soon as it is back, are told to end.
    assert bill.paid_again <= 2 * ACTORS * CONCURRENCY, bill


def cut_off_once(hosts: Hosts, driver: Driver, begun: Callable[[], bool], title: str) -> int:
    """Cuts the host off that works, once it has begun, and keeps the nodes up until the command ends; its number."""
    cut, until = None, float("inf")
    while driver.is_running:
        hosts.keep_up()
        if cut is None and begun():
            cut = hosts.host_of(title)
            if cut is not None:
                hosts.cut_off(cut)
                until = time.monotonic() + CUT_SECONDS
        if time.monotonic() >= until and cut is not None:
            hosts.connect(cut)
            until = float("inf")
        time.sleep(0.05)
    assert cut is not None, f"no host was cut off:\n{driver.said()}"
    assert until == float("inf"), "the command ended while the host was cut off"
    return cut
