"""One request over the `openai` client, and what its answer or failure means; nothing is retried here."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import openai
from openai.types import ModerationCreateResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from vp_ray.errors import AnnotatorError
from vp_ray.ids import content_id
from vp_ray.judging.config import ModelSettings
from vp_ray.judging.rate_headers import retry_after_seconds, stated_limits

Failing = Literal["rate", "busy", "timeout", "server", "connection", "filtered", "rejected", "fatal"]
"""Why there is no answer. `rate` is our own rate; `busy` a 429 although the stated limits were not reached; `filtered`
and `rejected` concern this request alone; `fatal` concerns all requests."""

BatchEndpoint = Literal["/v1/chat/completions", "/v1/responses"]

_RESPONSES_ONLY: Final = re.compile(r"(o1-pro|o3-pro|gpt-5(\.\d+)?-(pro|codex))")
"""Models that chat completions do not serve (2026-11)."""
_CHECK_SECONDS: Final = 10.0
_KEPT_CHARACTERS: Final = 4000
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


def new_client(settings: ModelSettings, base_url: str) -> openai.AsyncOpenAI:
    """A client for one event loop, without retries of its own; raises `AnnotatorError` when the key is not set."""
    key = "none"
    if settings.api_key_env is not None:
        key = os.environ.get(settings.api_key_env, "").strip()
        if not key:
            raise AnnotatorError(
                f"the environment variable {settings.api_key_env} holds no key for the annotator '{settings.name}'",
                "Set it on every node, then start the run again: it goes on from here.",
            )
    if settings.azure_api_version is not None:
        return openai.AsyncAzureOpenAI(
            azure_endpoint=base_url,
            azure_deployment=settings.model,
            api_version=settings.azure_api_version,
            api_key=key,
            max_retries=0,
            timeout=settings.timeout_seconds,
        )
    return openai.AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=settings.timeout_seconds)


def account_name(settings: ModelSettings, base_url: str) -> str:
    """Names the account whose limits an annotator's requests count against, without telling its key."""
    if settings.account is not None:
        return content_id("account", settings.account)
    key = os.environ.get(settings.api_key_env or "", "")
    return content_id("account", base_url.rstrip("/"), key, settings.model)


def check_annotator(settings: ModelSettings, base_url: str) -> None:
    """Nothing, when the address answers; raises `AnnotatorError` when it does not, or refuses the key.

    Servers without a list of models pass: their first real answer tells.
    """
    asyncio.run(_check(settings, base_url))


async def _check(settings: ModelSettings, base_url: str) -> None:
    async with new_client(settings, base_url) as client:
        try:
            await client.models.list(timeout=min(_CHECK_SECONDS, settings.timeout_seconds))
        except openai.APIConnectionError as error:
            raise AnnotatorError(
                f"the annotator '{settings.name}' does not answer at {base_url} ({error.__cause__ or error})",
                "Start it or correct its base_url, then start the run again: it goes on from here.",
            ) from None
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise unusable(error, settings) from None
        except openai.OpenAIError:
            return


async def ask(
    client: openai.AsyncOpenAI,
    settings: ModelSettings,
    messages: list[dict[str, Any]],
    response_format: dict[str, Any],
) -> Reply | Failure:
    """The answer to one request, or why there is none; raises nothing that a server could cause."""
    return await _outcome(settings, _send(client, settings, messages, response_format), _from_answer)


async def moderate(
    client: openai.AsyncOpenAI,
    settings: ModelSettings,
    messages: list[dict[str, Any]],
    response_format: dict[str, Any],
) -> Reply | Failure:
    """What `/v1/moderations` says of the one text among `messages`: JSON of `flagged` and of the `categories` met."""
    asked = client.moderations.with_raw_response.create(model=settings.model, input=messages[0]["content"])
    return await _outcome(settings, asked, _from_moderation)


async def _outcome(
    settings: ModelSettings, asked: Awaitable[Any], read: Callable[[Any, Mapping[str, str]], Reply | None]
) -> Reply | Failure:
    try:
        raw = await asked
        answer = raw.parse()
    except openai.APITimeoutError:
        return Failure("timeout", f"no answer within {settings.timeout_seconds:g} s")
    except openai.APIConnectionError as error:
        return Failure("connection", str(error.__cause__ or error))
    except openai.APIStatusError as error:
        return failure_of_error(error, settings)
    except (openai.OpenAIError, ValueError) as error:
        return Failure("server", f"the answer is not what was asked for: {error}")
    return read(answer, raw.headers) or Failure(
        "server", "the answer is not what was asked for", reply=raw.text[:_KEPT_CHARACTERS]
    )


def _from_answer(answer: Any, headers: Mapping[str, str]) -> Reply | None:
    return (_from_response if isinstance(answer, Response) else _from_completion)(answer, headers)


def _from_moderation(answer: Any, headers: Mapping[str, str]) -> Reply | None:
    if not isinstance(answer, ModerationCreateResponse) or not answer.results:
        return None
    found = answer.results[0]
    met = sorted(name for name, there in found.categories.to_dict().items() if there)
    text = json.dumps({"flagged": found.flagged, "categories": met})
    return Reply(text, None, "stop", 0, 0, 0, stated_limits(headers))


def batch_request(
    settings: ModelSettings, messages: list[dict[str, Any]], response_format: dict[str, Any]
) -> tuple[BatchEndpoint, dict[str, Any]]:
    """The endpoint and the body of one request, as a line of a batch has them."""
    if uses_responses(settings):
        return "/v1/responses", _responses_request(settings, messages, response_format)
    return "/v1/chat/completions", _chat_request(settings, messages, response_format)


def batch_reply(settings: ModelSettings, status: int, body: Mapping[str, Any]) -> Reply | Failure:
    """What a line of a batch's output says, in the words of a live answer."""
    said = json.dumps(body, ensure_ascii=False)[:_KEPT_CHARACTERS]
    if status != 200:
        found = body.get("error")
        error: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
        code, message = str(error.get("code") or ""), str(error.get("message") or body)
        return _failure(status, code, message, {}, said, settings)
    try:
        if uses_responses(settings):
            answer = _from_response(Response.model_validate(body), {})
        else:
            answer = _from_completion(ChatCompletion.model_validate(body), {})
    except ValueError as error:
        return Failure("server", f"the answer is not a completion: {error}", reply=said)
    return answer or Failure("server", "the answer is not a completion", reply=said)


async def _send(
    client: openai.AsyncOpenAI,
    settings: ModelSettings,
    messages: list[dict[str, Any]],
    response_format: dict[str, Any],
) -> Any:
    # As `extra_body` the request goes out as it is; as arguments, its every part is matched with a type, which takes
    # longer than all the rest.
    if uses_responses(settings):
        asked = _responses_request(settings, messages, response_format)
        return await client.responses.with_raw_response.create(model=settings.model, extra_body=asked)
    asked = _chat_request(settings, messages, response_format)
    return await client.chat.completions.with_raw_response.create(model=settings.model, messages=(), extra_body=asked)


def _from_completion(completion: Any, headers: Mapping[str, str]) -> Reply | None:
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


def uses_responses(settings: ModelSettings) -> bool:
    """Whether requests go to the Responses API: as set, or because the model is served by nothing else."""
    if settings.api == "auto":
        return bool(_RESPONSES_ONLY.match(settings.model))
    return settings.api == "responses"


def _chat_request(
    settings: ModelSettings, messages: list[dict[str, Any]], response_format: dict[str, Any]
) -> dict[str, Any]:
    request: dict[str, Any] = {
        "model": settings.model,
        "messages": messages,
        "response_format": response_format,
        "max_completion_tokens": settings.max_reply_tokens,
    }
    return request if settings.temperature is None else {**request, "temperature": settings.temperature}


def _responses_request(
    settings: ModelSettings, messages: list[dict[str, Any]], response_format: dict[str, Any]
) -> dict[str, Any]:
    """The same request in the words of the Responses API; nothing is kept at the provider."""

    def part(content: Any) -> dict[str, Any]:
        if content["type"] == "text":
            return {"type": "input_text", "text": content["text"]}
        return {
            "type": "input_image",
            "image_url": content["image_url"]["url"],
            "detail": content["image_url"]["detail"],
        }

    said = [
        {
            "role": message["role"],
            "content": message["content"]
            if isinstance(message["content"], str)
            else [part(content) for content in message["content"]],
        }
        for message in messages
    ]
    request: dict[str, Any] = {
        "model": settings.model,
        "input": said,
        "text": {"format": {"type": "json_schema", **response_format["json_schema"]}},
        "max_output_tokens": settings.max_reply_tokens,
        "store": False,
    }
    return request if settings.temperature is None else {**request, "temperature": settings.temperature}


def _from_response(response: Any, headers: Mapping[str, str]) -> Reply | None:
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


def failure_of_error(error: openai.APIStatusError, settings: ModelSettings) -> Failure:
    """What an HTTP error says of a request, or of all requests."""
    response = error.response
    said = response.text[:_KEPT_CHARACTERS]
    return _failure(error.status_code, error.code or "", error.message, response.headers, said, settings)


def _failure(
    status: int, code: str, message: str, headers: Mapping[str, str], said: str, settings: ModelSettings
) -> Failure:
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
        remedy = "Correct its model or base_url, and use a new run directory."
    return AnnotatorError(f"{problem} (HTTP {status}: {message})", remedy)
