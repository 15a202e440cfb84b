"""One request over the `openai` client; nothing is retried here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from typing import Any, Final

import openai

from vp_ray.errors import AnnotatorError
from vp_ray.ids import content_id
from vp_ray.judging.bodies import chat_request, responses_request, uses_responses
from vp_ray.judging.config import ModelSettings
from vp_ray.judging.outcomes import (
    KEPT_CHARACTERS,
    Failure,
    Read,
    Reply,
    failure_of_error,
    from_answer,
    from_moderation,
    understood,
    unusable,
)
from vp_ray.redaction import keep_secret

_CHECK_SECONDS: Final = 10.0


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
        keep_secret(key)
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
    return await _outcome(settings, _send(client, settings, messages, response_format), from_answer)


async def moderate(
    client: openai.AsyncOpenAI,
    settings: ModelSettings,
    messages: list[dict[str, Any]],
    response_format: dict[str, Any],
) -> Reply | Failure:
    """What `/v1/moderations` says of the one text among `messages`: JSON of `flagged` and of the `categories` met."""
    asked = client.moderations.with_raw_response.create(model=settings.model, input=messages[0]["content"])
    return await _outcome(settings, asked, from_moderation)


async def _outcome(settings: ModelSettings, asked: Awaitable[Any], read: Read) -> Reply | Failure:
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
    return understood(read, answer, raw.headers) or Failure(
        "server", "the answer is not what was asked for", reply=raw.text[:KEPT_CHARACTERS]
    )


async def _send(
    client: openai.AsyncOpenAI,
    settings: ModelSettings,
    messages: list[dict[str, Any]],
    response_format: dict[str, Any],
) -> Any:
    # As `extra_body` the request goes out as it is; as arguments, its every part is matched with a type, which takes
    # longer than all the rest.
    if uses_responses(settings):
        asked = responses_request(settings, messages, response_format)
        return await client.responses.with_raw_response.create(model=settings.model, extra_body=asked)
    asked = chat_request(settings, messages, response_format)
    return await client.chat.completions.with_raw_response.create(model=settings.model, messages=(), extra_body=asked)
