"""The models that are asked about prompts, one after the other, within the limits of their accounts and one budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from vp_ray.distributed.limiter import ClusterLimiter, running_limiter
from vp_ray.distributed.metrics import AnswerMetrics
from vp_ray.errors import BudgetError, SettingsError
from vp_ray.judging.client import check_annotator, moderate
from vp_ray.judging.config import EMBEDDED, ModelSettings
from vp_ray.judging.grants import RateLimiter
from vp_ray.judging.ledger import spent_usd
from vp_ray.judging.prices import price_of
from vp_ray.prompts.asking import answers
from vp_ray.prompts.config import ModeratorSettings, PolisherSettings, PromptSettings
from vp_ray.prompts.forms import ModerationForm, PolishForm
from vp_ray.prompts.guide import Guide
from vp_ray.prompts.steps import FLAGGED, UNMODERATED, Rows, asked_about, moderated, polished, to_polish
from vp_ray.storage import Folder
from vp_ray.telemetry import progress


def ask_models(
    settings: PromptSettings, rows: Rows, ledger: Folder, embedded_url: str | None
) -> tuple[Rows, Counter[str], dict[str, Any], float]:
    """The prompts after moderation and polish, how many were dropped and why, the figures of both steps, and dollars.

    Ray must be connected. Raises `AnnotatorError`, `BudgetError` or `SettingsError`.
    """
    urls = {model.name: _url(model, embedded_url) for model in settings.models}
    _check_budget(settings, ledger)
    for model in settings.models:
        check_annotator(model, urls[model.name])
    dropped: Counter[str] = Counter()
    figures: dict[str, Any] = {}
    with running_limiter(settings.models, settings.budget_usd, ledger, urls) as books:
        limiter = ClusterLimiter(books)
        if settings.moderation is not None:
            rows, counts = _moderate(settings.moderation, urls, rows, ledger, limiter)
            figures["moderation"] = dict(counts)
            if settings.moderation.on_flagged == "drop":
                dropped.update({name: counts[name] for name in (FLAGGED, UNMODERATED)})
        if settings.polish is not None:
            rows, counts = _polish(settings.polish, settings.max_characters, urls, rows, ledger, limiter)
            figures["polish"] = dict(counts)
            dropped["duplicate_after_polish"] = counts["duplicate_after_polish"]
        figures["traffic"] = limiter.figures()
    return rows, dropped, figures, spent_usd(ledger)


def _moderate(
    settings: ModeratorSettings, urls: Mapping[str, str], rows: Rows, ledger: Folder, limiter: RateLimiter
) -> tuple[Rows, Counter[str]]:
    form = ModerationForm(settings)
    with progress("prompts", "moderated", len(rows)) as bar:
        found = answers(
            settings,
            urls[settings.name],
            form,
            asked_about(rows),
            limiter,
            ledger,
            bar.update,
            send=moderate,
            watch=AnswerMetrics(settings.name),
        )
    return moderated(rows, found, form, keep=settings.on_flagged == "keep")


def _polish(
    settings: PolisherSettings,
    max_characters: int,
    urls: Mapping[str, str],
    rows: Rows,
    ledger: Folder,
    limiter: RateLimiter,
) -> tuple[Rows, Counter[str]]:
    form, asked = PolishForm(settings, Guide.load(settings.guide), max_characters), asked_about(to_polish(rows))
    with progress("prompts", "polished", len(asked)) as bar:
        watch = AnswerMetrics(settings.name)
        found = answers(settings, urls[settings.name], form, asked, limiter, ledger, bar.update, watch=watch)
    return polished(rows, found, form)


def _url(model: ModelSettings, embedded_url: str | None) -> str:
    if model.base_url != EMBEDDED:
        return model.base_url
    if embedded_url is None:
        raise SettingsError(
            f"'{model.name}' is to ask the embedded judge, which does not run here",
            "Run the stage through `vp-ray`, or give a base_url.",
            "prompts",
        )
    return embedded_url


def _check_budget(settings: PromptSettings, ledger: Folder) -> None:
    if settings.budget_usd is None:
        return
    for model in settings.models:
        if price_of(model) is None:
            problem = f"a budget is set, but the price of '{model.model}' is not known"
            raise SettingsError(problem, "Set its price.", f"prompts.{model.name}")
    spent = spent_usd(ledger)
    if spent >= settings.budget_usd:
        problem = f"{spent:.2f} of {settings.budget_usd:.2f} US dollars are spent"
        raise BudgetError(problem, "Raise prompts.budget_usd to go on.")
