"""Asks a model about many prompts; what the ledger answers is not asked again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from vp_ray.judging.client import ask
from vp_ray.judging.config import ModelSettings
from vp_ray.judging.engine import Asker
from vp_ray.judging.forms import Form
from vp_ray.judging.grants import RateLimiter
from vp_ray.judging.interview import Send
from vp_ray.judging.ledger import UNANSWERED, best_rows, register
from vp_ray.judging.watching import RequestWatch
from vp_ray.prompts.forms import Prompt
from vp_ray.storage import Folder

_CHUNK_OF_CONCURRENCY: Final = 4
_CHUNKS_AT_ONCE: Final = 2
"""So that the last answers of one chunk leave no place empty."""


def answers(
    settings: ModelSettings,
    base_url: str,
    form: Form[Prompt],
    prompts: Sequence[Prompt],
    limiter: RateLimiter,
    ledger: Folder,
    tell: Callable[[int], None],
    send: Send = ask,
    watch: RequestWatch | None = None,
) -> Mapping[str, dict[str, Any]]:
    """The ledger's row for each prompt, by the form's key; `tell` takes how many are there.

    Raises `AnnotatorError`, `BudgetError` or `StorageError` when the run must stop; what was answered by then is in the
    ledger.
    """
    known = best_rows(ledger)
    by_key = {form.key(prompt): prompt for prompt in prompts}
    rows = {key: known[key] for key in by_key if key in known and known[key]["status"] not in UNANSWERED}
    missing = [prompt for key, prompt in by_key.items() if key not in rows]
    tell(len(rows))
    if not missing:
        return rows
    size = _CHUNK_OF_CONCURRENCY * settings.concurrency
    chunks = [missing[start : start + size] for start in range(0, len(missing), size)]
    with (
        Asker(settings, base_url, form, limiter, ledger, send, watch) as asker,
        ThreadPoolExecutor(_CHUNKS_AT_ONCE) as threads,
    ):
        register(ledger, [asker.writer])
        for made in threads.map(asker, chunks):
            rows |= {row["judgement_id"]: row for row in made}
            tell(len(rows))
    return rows
