"""The prompts stage with moderation and polish: files in, prompts out, through the cluster's limiter."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vp_ray.errors import BudgetError, SettingsError
from vp_ray.judging.ledger import answered, spent_usd
from vp_ray.pipeline.running import run_job
from vp_ray.pipeline.settings import JobSettings
from vp_ray.pipeline.summary import print_summary
from vp_ray.prompts.config import PromptSettings
from vp_ray.prompts.job import run
from vp_ray.records import PROMPTS
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge
from vp_ray.storage import RunFolder

TEXTS = [
    "a typical lighthouse above a stormy sea at dusk, watercolour",
    "A typical lighthouse above a stormy sea at dusk, watercolour!",
    "a nude in a garden",
    "a red red balloon by @painter",
    "a scary cruel exotic heron",
    "a heron",
    "an unspeakable thing",
    "write to me@mail.example or call +1 555 123 4567",
    *(f"{what} on a {where}" for what in ("cat", "dog", "fox", "owl") for where in ("table", "mountain", "ship")),
]


def stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url.replace("/v1", "/stats"), timeout=10) as reply:  # noqa: S310
        return json.loads(reply.read())


def prompts(tmp_path: Path, url: str, **changes: Any) -> dict[str, Any]:
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(TEXTS))
    price = {"request_usd_per_million_tokens": 100, "reply_usd_per_million_tokens": 100}
    polish = {"model": "shapeworld-oracle", "base_url": url, "max_reply_tokens": 200, "price": price, "concurrency": 2}
    return {
        "sources": [{"kind": "text", "path": str(path)}],
        "mask": ["mail", "phone", "handle"],
        "near_duplicates": 0.8,
        "moderation": {"base_url": url, "price": {**price, "reply_usd_per_million_tokens": 0}},
        "polish": polish,
        **changes,
    }


def test_every_step_is_counted_and_a_budget_stops_and_goes_on_without_paying_twice(
    tmp_path: Path, local_ray: None
) -> None:
    folder = RunFolder.at(tmp_path / "run")
    ledger = folder.stage("prompts") / "ledger"
    with running_judge(JudgeSettings()) as url:
        with pytest.raises(BudgetError, match="raise the stage's budget_usd"):
            run(PromptSettings.load(prompts(tmp_path, url, budget_usd=0.25)), folder)
        assert 0.0 < spent_usd(ledger) <= 0.25
        before = len(answered(ledger))
        job = {"run": folder.uri, "prompts": prompts(tmp_path, url, budget_usd=10.0), "report": None}
        finished = run_job(JobSettings.load(job))
        requests = stats(url)["requests"]
        assert stats(url)["bodies_judged_again"] == 0
        assert requests == len(answered(ledger)) > before
    manifest = finished["prompts"].manifest
    # The second lighthouse goes as a near-duplicate, the nude is flagged, the herons become one.
    assert manifest.rows == {"kept": 17, "near_duplicate": 1, "flagged": 1, "duplicate_after_polish": 1}
    assert manifest.cost_usd == pytest.approx(spent_usd(ledger))
    assert manifest.figures["masked"] == {"mail": 1, "phone": 1, "handle": 1}
    assert manifest.figures["moderation"] == {"flagged": 1, "flagged:sexual": 1}
    assert manifest.figures["polish"] == {
        **{"polished": 3, "unchanged": 14, "polish_refused": 1, "duplicate_after_polish": 1},
        **{"bias": 2, "inconsistency": 1, "unsafe": 1},
    }
    table = folder.stage("prompts").read_table("prompts.parquet")
    assert table.schema.equals(PROMPTS)
    rows = {row["prompt"]: row for row in table.to_pylist()}
    assert rows["a lighthouse above a stormy sea at dusk, watercolour"]["prompt_raw"] == TEXTS[0]
    assert rows["a red balloon by [handle]"]["flags"] == ["masked", "polished"]
    assert rows["an unspeakable thing"]["flags"] == ["polish_refused"]
    assert rows["write to [mail] or call [phone]"]["prompt_raw"] == "write to [mail] or call [phone]"
    console = Console(record=True, width=200)
    print_summary(finished, console)
    assert (
        "masked 1 handle, 1 mail, 1 phone; 1 flagged; 3 polished (2 bias, 1 inconsistency, 1 unsafe)"
        in console.export_text()
    )


def test_an_embedded_model_needs_the_judge(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no section 'judge'"):
        JobSettings.load({"run": "x", "prompts": prompts(tmp_path, "embedded")})
