"""A process that has prompts polished into a ledger until it is killed: `python asking_process.py URL LEDGER COUNT`."""

from __future__ import annotations

import sys
from typing import Any

from vp_ray.judging.gate import Gate, LocalLimiter
from vp_ray.prompts.asking import answers
from vp_ray.prompts.config import PolisherSettings
from vp_ray.prompts.forms import PolishForm, Prompt
from vp_ray.prompts.guide import Guide
from vp_ray.storage import Folder


def polisher(**changes: Any) -> PolisherSettings:
    values = {"model": "shapeworld-oracle", "base_url": "embedded", "requests_per_minute": 0, "concurrency": 4}
    return PolisherSettings.load({**values, **changes})


def polish_all(url: str, ledger: Folder, texts: list[str], **changes: Any) -> dict[str, dict[str, Any]]:
    """Rows by text."""
    settings = polisher(**changes)
    form = PolishForm(settings, Guide.load(settings.guide), 200)
    prompts = [Prompt(text, text) for text in texts]
    limiter = LocalLimiter(Gate([settings]))
    rows = answers(settings, url, form, prompts, limiter, ledger.make(), lambda count: None)
    return {row["prompt"]: dict(row) for row in rows.values()}


if __name__ == "__main__":
    address, place, count = sys.argv[1:]
    polish_all(address, Folder.at(place), [f"a typical house number {n}" for n in range(int(count))])
