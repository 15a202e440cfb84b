"""What a server's answers and failures mean, whichever way they came."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import openai
from openai.types import ModerationCreateResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from vp_ray.errors import AnnotatorError
from vp_ray.judging.config import ModelSettings
from vp_ray.judging.rate_headers import retry_after_seconds, stated_limits

Failing = Literal["rate", "busy", "timeout", "server", "connection", "filtered", "rejected", "fatal"]
"""Why there is no answer. `rate` is our own rate; `busy` a 429 although the stated limits were not reached; `filtered`
and `rejected` concern this request alone; `fatal` concerns all requests."""

KEPT_CHARACTERS: Final = 4000
"""So much is kept of what a server says instead of an answer."""
_QUOTA_CODES: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_MODEL_CODES: Final = frozenset({"model_not_found", "DeploymentNotFound"})
_FILTER_CODES: Final = frozenset({"content_filter", "content_policy_violation", "moderation_blocked"})


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, with the tokens that are billed; None where the server did not count them."""

    text: str
    refusal: str | None
    finish_reason: str
    request_tokens: int | None
    reply_tokens: int | None
    cached_tokens: int
    stated: tuple[float | None, float | None]
    """Requests and tokens a minute that the server states as its limits."""


Read = Callable[[Any, Mapping[str, str]], Reply | None]
"""What is read of an answer and its headers; None where there is nothing to read."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why nothing came back."""

    failing: Failing
    detail: str
    retry_after_seconds: float = 0.0
    stated: tuple[float | None, float | None] = (None, None)
    reply: str | None = None
    """What the server said, its beginning."""
    error: AnnotatorError | None = None
    """Set where `failing` is `fatal`: what stops the run."""


def understood(read: Read, answer: Any, headers: Mapping[str, str]) -> Reply | None:
    """What `read` makes of an answer; None where a server left out, or gave another form to, what is read."""
    try:
        reply = read(answer, headers)
    except (AttributeError, TypeError, LookupError):
        return None
    texts = reply is not None and isinstance(reply.text, str) and isinstance(reply.refusal, str | None)
    return reply if texts else None


def from_answer(answer: Any, headers: Mapping[str, str]) -> Reply | None:
    """What an answer of either API says; None for anything else."""
    return (from_response if isinstance(answer, Response) else from_completion)(answer, headers)


def from_completion(completion: Any, headers: Mapping[str, str]) -> Reply | None:
    """The first choice of a chat completion; None for what is none."""
    if not isinstance(completion, ChatCompletion) or not completion.choices:
        return None
    choice, usage = completion.choices[0], completion.usage
    details = usage.prompt_tokens_details if usage else None
    return Reply(
        text=choice.message.content or "",
        refusal=choice.message.refusal,
        finish_reason=choice.finish_reason or "",
        request_tokens=usage.prompt_tokens if usage else None,
        reply_tokens=usage.completion_tokens if usage else None,
        cached_tokens=(details.cached_tokens or 0) if details else 0,
        stated=stated_limits(headers),
    )


def from_response(response: Any, headers: Mapping[str, str]) -> Reply | None:
    """The text or the refusal of a `Response`; None for one that failed."""
    if response.status not in ("completed", "incomplete"):
        return None
    reason = response.incomplete_details.reason if response.incomplete_details else None
    parts = [part for item in response.output if item.type == "message" for part in item.content]
    refusals = [part.refusal for part in parts if part.type == "refusal"]
    usage = response.usage
    return Reply(
        text=response.output_text,
        refusal=refusals[0] if refusals else None,
        finish_reason={"max_output_tokens": "length", "content_filter": "content_filter"}.get(reason or "", "stop"),
        request_tokens=usage.input_tokens if usage else None,
        reply_tokens=usage.output_tokens if usage else None,
        cached_tokens=(usage.input_tokens_details.cached_tokens or 0) if usage and usage.input_tokens_details else 0,
        stated=stated_limits(headers),
    )


def from_moderation(answer: Any, headers: Mapping[str, str]) -> Reply | None:
    """JSON of `flagged` and of the `categories` met; None for what is no moderation."""
    if not isinstance(answer, ModerationCreateResponse) or not answer.results:
        return None
    found = answer.results[0]
    met = sorted(name for name, there in found.categories.to_dict().items() if there)
    text = json.dumps({"flagged": found.flagged, "categories": met})
    return Reply(text, None, "stop", 0, 0, 0, stated_limits(headers))


def failure_of_error(error: openai.APIStatusError, settings: ModelSettings) -> Failure:
    """What an HTTP error says of a request, or of all requests."""
    response = error.response
    said = response.text[:KEPT_CHARACTERS]
    return failure_of_status(error.status_code, error.code or "", error.message, response.headers, said, settings)


def failure_of_status(
    status: int, code: str, message: str, headers: Mapping[str, str], said: str, settings: ModelSettings
) -> Failure:
    """What an HTTP status with an error's code and message says; `said` is what is kept of the body."""
    detail = f"HTTP {status}: {message}"
    if code in _QUOTA_CODES or code in _MODEL_CODES or status in (401, 403, 404):
        return Failure("fatal", detail, error=_unusable(status, code, message, settings))
    if status == 429:
        # A server may limit only one of them, and state only that.
        spare = [headers.get(f"x-ratelimit-remaining-{kind}", "") for kind in ("requests", "tokens")]
        told = [left for left in spare if left]
        ours = not told or not all(left.isdigit() and int(left) > 0 for left in told)
        return Failure("rate" if ours else "busy", detail, retry_after_seconds(headers), stated_limits(headers))
    if status >= 500 or status in (408, 409):
        return Failure("server", detail, retry_after_seconds(headers), stated_limits(headers), said)
    return Failure(
        "filtered" if code in _FILTER_CODES else "rejected", detail, stated=stated_limits(headers), reply=said
    )


def unusable(error: openai.APIStatusError, settings: ModelSettings) -> AnnotatorError:
    """What stops the run when a server refuses everybody: key, access, model or quota."""
    return _unusable(error.status_code, error.code or "", error.message, settings)


def _unusable(status: int, code: str, message: str, settings: ModelSettings) -> AnnotatorError:
    name, again = settings.name, "then start the run again: it goes on from here."
    if code in _QUOTA_CODES:
        problem, remedy = f"the annotator '{name}' has no quota left", f"Add credit to its account, {again}"
    elif status == 401:
        where = settings.api_key_env or "api_key_env, which is not set"
        problem, remedy = f"the annotator '{name}' refuses the key", f"Correct the key in {where}, {again}"
    elif status == 403:
        problem, remedy = f"the key may not use the annotator '{name}'", f"Ask for access or use another key, {again}"
    else:
        problem = f"the annotator '{name}' knows no model '{settings.model}'"
        remedy = f"Correct its base_url, {again} Another model needs a new run directory."
    return AnnotatorError(f"{problem} (HTTP {status}: {message})", remedy)
