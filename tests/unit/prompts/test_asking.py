"""Moderation and polish over real HTTP, against the embedded judge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.prompts.asking_process import polish_all, polisher
from vp_ray.errors import SettingsError
from vp_ray.judging.client import moderate
from vp_ray.judging.gate import Gate, LocalLimiter
from vp_ray.judging.ledger import answered
from vp_ray.judging.parsing import UnreadableReplyError
from vp_ray.prompts.asking import answers
from vp_ray.prompts.config import ModeratorSettings, PromptSettings
from vp_ray.prompts.forms import ModerationForm, PolishForm, Prompt
from vp_ray.prompts.guide import Guide
from vp_ray.prompts.steps import first_of_clusters, moderated, polished, to_polish
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge
from vp_ray.storage import Folder

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def judge_url() -> Iterator[str]:
    with running_judge(JudgeSettings(latency_seconds=0.02)) as url:
        yield url


def stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url.replace("/v1", "/stats"), timeout=10) as reply:  # noqa: S310
        return json.loads(reply.read())


def rows_of(*texts: str) -> list[dict[str, Any]]:
    return [{"prompt_id": text, "prompt": text, "prompt_raw": text, "flags": []} for text in texts]


def test_flagged_prompts_are_dropped_or_kept_with_their_categories(judge_url: str, tmp_path: Path) -> None:
    settings = ModeratorSettings.load({"model": "shapeworld-moderation", "base_url": "embedded"})
    form = ModerationForm(settings)
    rows = rows_of("a red circle", "a bloody massacre, nude", "GORE everywhere", "a gorey film")
    prompts = [Prompt(row["prompt_id"], row["prompt"]) for row in rows]
    limiter = LocalLimiter(Gate([settings]))
    told: list[int] = []
    found = answers(settings, judge_url, form, prompts, limiter, Folder.at(tmp_path).make(), told.append, moderate)
    kept, counts = moderated(rows, found, form, keep=False)
    assert [row["prompt"] for row in kept] == ["a red circle", "a gorey film"]
    assert counts["flagged"] == 2
    assert told[-1] == 4
    flagged, _ = moderated(rows, found, form, keep=True)
    assert [row["flags"] for row in flagged] == [
        [],
        ["flagged", "flagged:sexual", "flagged:violence"],
        ["flagged", "flagged:violence/graphic"],
        [],
    ]
    assert [row["prompt"] for row in to_polish(flagged)] == ["a red circle", "a gorey film"]
    unknown = {key: {**row, "status": "given_up"} for key, row in found.items()}
    nobody, counts = moderated(rows, unknown, form, keep=True)
    assert counts == {"unmoderated": 4}
    assert to_polish(nobody) == []


def test_a_polish_mends_faults_keeps_the_raw_prompt_and_what_is_refused_stays_as_it_was(
    judge_url: str, tmp_path: Path
) -> None:
    texts = [
        "a typical red red circle",
        "a scary dog",
        "a cat",
        "an unspeakable thing",
        "A cat!",
        "a cruel cat",
        "x < y",
    ]
    answers_by_text = polish_all(judge_url, Folder.at(tmp_path), texts)
    form = PolishForm(polisher(), Guide.load("visionprefer"), 200)
    rows = rows_of(*texts)
    rows[4]["flags"] = ["flagged"]
    found = {row["judgement_id"]: row for row in answers_by_text.values()}
    made, counts = polished(rows, found, form)
    assert [row["prompt"] for row in made] == [
        "a red circle",
        "a dog",
        "a cat",
        "an unspeakable thing",
        "A cat!",
        "x < y",
    ]
    assert made[0]["prompt_raw"] == "a typical red red circle"
    assert made[0]["prompt_id"] != rows[0]["prompt_id"]
    assert [row["flags"] for row in made] == [["polished"], ["polished"], [], ["polish_refused"], ["flagged"], []]
    assert counts == {
        **{"polished": 3, "unchanged": 2, "polish_refused": 1, "duplicate_after_polish": 1},
        **{"bias": 1, "inconsistency": 1, "unsafe": 2},
    }


def test_a_polish_that_stays_unreadable_is_a_status_after_one_more_question(tmp_path: Path) -> None:
    with running_judge(JudgeSettings.load({"faults": {"malformed": 1.0}})) as url:
        rows = polish_all(url, Folder.at(tmp_path), ["a typical cat"])
        assert rows["a typical cat"]["status"] == "unreadable"
        assert rows["a typical cat"]["attempts"] == 2
        assert rows["a typical cat"]["polished"] is None
        # It was answered, if badly, and is not paid for again.
        polish_all(url, Folder.at(tmp_path), ["a typical cat"])
        assert stats(url)["requests"] == 2


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("no", "not valid JSON"),
        ('{"prompt": "a cat"}', "must have the keys bias, inconsistency, unsafe and prompt"),
        ('{"bias": "maybe", "inconsistency": "no", "unsafe": "no", "prompt": "a"}', "neither yes nor no"),
        ('{"bias": "no", "inconsistency": "no", "unsafe": "no", "prompt": " "}', "holds no text"),
        ('{"bias": "no", "inconsistency": "no", "unsafe": "no", "prompt": "aaaaaa"}', "more than 5"),
    ],
)
def test_what_is_no_polish_is_told_to_the_model(reply: str, problem: str) -> None:
    form = PolishForm(polisher(), Guide.load("visionprefer"), 5)
    with pytest.raises(UnreadableReplyError, match=problem):
        form.read(Prompt("1", "a"), reply)


def test_kill_9_loses_no_polish_and_pays_for_none_twice_but_what_was_under_way(tmp_path: Path) -> None:
    ledger, count = Folder.at(tmp_path / "ledger"), 80
    with running_judge(JudgeSettings(latency_seconds=0.1)) as url:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.prompts.asking_process", url, ledger.uri, str(count)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        deadline = time.monotonic() + 120
        while len(answered(ledger)) < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert 20 <= len(answered(ledger)) < count
        rows = polish_all(url, ledger, [f"a typical house number {n}" for n in range(count)])
        assert {row["polished"] for row in rows.values()} == {f"a house number {n}" for n in range(count)}
        assert stats(url)["bodies_judged"] == count
        assert stats(url)["bodies_judged_again"] <= 4


def test_the_first_of_near_duplicates_is_kept() -> None:
    long = "a watercolour painting of an old lighthouse on a cliff above a stormy sea at dusk"
    texts = [long, "two cats on a red sofa", f"{long}, 4k", "Two cats on a red sofa!", "a dog"]
    assert first_of_clusters(texts, 0.8).tolist() == [True, True, False, False, True]


def test_settings_without_effect_are_refused() -> None:
    source = {"sources": [{"kind": "text", "path": "x"}]}
    with pytest.raises(SettingsError, match="temperature has no effect on a moderation"):
        PromptSettings.load({**source, "moderation": {"temperature": 0.5}})
    with pytest.raises(SettingsError, match="budget_usd has no effect"):
        PromptSettings.load({**source, "budget_usd": 1})
    with pytest.raises(SettingsError, match="must have different names"):
        PromptSettings.load({**source, "moderation": {"name": "a"}, "polish": {"name": "a", "model": "m"}})
    with pytest.raises(SettingsError, match=r"there is no guide 'x'.*visionprefer"):
        Guide.load("x")
