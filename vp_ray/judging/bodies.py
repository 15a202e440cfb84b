"""The bodies of requests, in the words of chat completions and of the Responses API."""

from __future__ import annotations

import re
from typing import Any, Final, Literal

from vp_ray.judging.config import ModelSettings

BatchEndpoint = Literal["/v1/chat/completions", "/v1/responses"]

_RESPONSES_ONLY: Final = re.compile(r"(o1-pro|o3-pro|gpt-5(\.\d+)?-(pro|codex))")
"""Models that chat completions do not serve (2026-11)."""


def batch_request(
    settings: ModelSettings, messages: list[dict[str, Any]], response_format: dict[str, Any]
) -> tuple[BatchEndpoint, dict[str, Any]]:
    """The endpoint and the body of one request, as a line of a batch has them."""
    if uses_responses(settings):
        return "/v1/responses", responses_request(settings, messages, response_format)
    return "/v1/chat/completions", chat_request(settings, messages, response_format)


def uses_responses(settings: ModelSettings) -> bool:
    """Whether requests go to the Responses API: as set, or because the model is served by nothing else."""
    if settings.api == "auto":
        return bool(_RESPONSES_ONLY.match(settings.model))
    return settings.api == "responses"


def chat_request(
    settings: ModelSettings, messages: list[dict[str, Any]], response_format: dict[str, Any]
) -> dict[str, Any]:
    """The body of a request for a chat completion."""
    request: dict[str, Any] = {
        "model": settings.model,
        "messages": messages,
        "response_format": response_format,
        "max_completion_tokens": settings.max_reply_tokens,
    }
    return request if settings.temperature is None else {**request, "temperature": settings.temperature}


def responses_request(
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
