"""The Responses API in the words of chat completions, and back: the judge understands one of them, and answers both."""

from __future__ import annotations

from typing import Any, Final

from vp_ray.shapeworld.judge_errors import RequestError

_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
_SAME: Final = ("model", "stream", "temperature")


def as_chat(body: Any) -> dict[str, Any]:
    """The chat request that a request of the Responses API is; raises `RequestError` for what the judge cannot read."""
    if not isinstance(body, dict):
        raise RequestError("The body is not a JSON object", "invalid_json")
    text = body.get("text")
    form = text.get("format") if isinstance(text, dict) else None
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        raise RequestError("'text.format' must be of type json_schema", "invalid_json_schema", "text.format")
    chat = {name: body[name] for name in _SAME if name in body}
    if "max_output_tokens" in body:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    schema = {name: value for name, value in form.items() if name != "type"}
    return {
        **chat,
        "messages": _messages(body.get("input")),
        "response_format": {"type": "json_schema", "json_schema": schema},
    }


def _messages(asked: Any) -> list[dict[str, Any]]:
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise RequestError("'input' must be a text or a list of messages", "invalid_input", "input")
    return [{"role": item.get("role"), "content": _content(item.get("content"))} for item in items]


def _content(content: Any) -> Any:
    return [_part(part) for part in content] if isinstance(content, list) else content


def _part(part: Any) -> dict[str, Any]:
    match part:
        case {"type": "input_text" | "output_text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "input_image", "image_url": str(url)}:
            return {"type": "image_url", "image_url": {"url": url, "detail": part.get("detail", "auto")}}
        case _:
            raise RequestError("A content part is neither input_text nor input_image", "invalid_content", "input")


def as_response(completion: dict[str, Any]) -> dict[str, Any]:
    """The `response` object of a `chat.completion` object, of its first choice."""
    choice, usage = completion["choices"][0], completion["usage"]
    said, reason = choice["message"], _INCOMPLETE.get(choice["finish_reason"])
    status = "completed" if reason is None else "incomplete"
    parts = [{"type": "output_text", "text": said["content"], "annotations": []}] if said["content"] else []
    if said["refusal"]:
        parts = [{"type": "refusal", "refusal": said["refusal"]}]
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": parts}
    return {
        "id": completion["id"].replace("chatcmpl", "resp"),
        "object": "response",
        "created_at": completion["created"],
        "model": completion["model"],
        "status": status,
        "error": None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "output": [message] if parts else [],
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        },
    }
