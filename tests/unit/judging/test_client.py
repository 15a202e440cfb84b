"""What one reply of a server means, by status, code and headers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.unit.judging.conftest import annotator
from tests.unit.judging.scripted_server import ScriptedServer, problem
from vp_ray.errors import AnnotatorError
from vp_ray.judging.batch_files import read_output
from vp_ray.judging.client import account_name, ask, check_annotator, new_client
from vp_ray.judging.config import AnnotatorSettings
from vp_ray.judging.outcomes import Failure, Reply
from vp_ray.judging.rate_headers import duration_seconds


class Server(ScriptedServer):
    """A scripted server with one client that asks it."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._settings = annotator()
        self._client = new_client(self._settings, self.url)

    def reply_of(self, status: int, body: Any, headers: dict[str, str] | None = None) -> Reply | Failure:
        """What the client makes of this reply."""
        self.reply(status, body, headers)
        messages = [{"role": "user", "content": "x"}]
        return self._loop.run_until_complete(ask(self._client, self._settings, messages, {"type": "json_object"}))

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()
        super().close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("status", "code", "failing"),
    [
        (401, "invalid_api_key", "fatal"),
        (403, "forbidden", "fatal"),
        (404, "model_not_found", "fatal"),
        (429, "insufficient_quota", "fatal"),
        (400, "billing_hard_limit_reached", "fatal"),
        (429, "rate_limit_exceeded", "rate"),
        (400, "content_filter", "filtered"),
        (400, "invalid_image", "rejected"),
        (413, "too_large", "rejected"),
        (422, "unprocessable", "rejected"),
        (408, "timeout", "server"),
        (500, "server_error", "server"),
        (503, "overloaded", "server"),
    ],
)
def test_each_status_and_code_means_one_thing(server: Server, status: int, code: str, failing: str) -> None:
    outcome = server.reply_of(status, problem(code, "because"))
    assert isinstance(outcome, Failure)
    assert outcome.failing == failing
    assert f"HTTP {status}" in outcome.detail
    assert (outcome.error is not None) == (failing == "fatal")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "3"}, 3.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"retry-after": "nonsense"}, 0.0),
        ({}, 0.0),
    ],
)
def test_how_long_to_wait_is_read_from_whichever_header_says_it(
    server: Server, headers: dict[str, str], seconds: float
) -> None:
    outcome = server.reply_of(429, problem("rate_limit_exceeded"), headers)
    assert isinstance(outcome, Failure)
    assert outcome.retry_after_seconds == pytest.approx(seconds)


def test_a_429_that_the_stated_limits_contradict_is_not_our_rate(server: Server) -> None:
    spare = {"x-ratelimit-remaining-requests": "50", "x-ratelimit-remaining-tokens": "9000"}
    outcome = server.reply_of(429, problem("rate_limit_exceeded"), {**spare, "x-ratelimit-limit-requests": "500"})
    assert isinstance(outcome, Failure)
    assert outcome.failing == "busy"
    assert outcome.stated == (500.0, None)
    requests_alone = server.reply_of(429, problem("rate_limit_exceeded"), {"x-ratelimit-remaining-requests": "50"})
    assert isinstance(requests_alone, Failure)
    assert requests_alone.failing == "busy"


def test_a_200_that_is_not_a_completion_is_the_servers_failure(server: Server) -> None:
    odd = ({"choices": [{"index": 0}]}, {"choices": [{"message": {"content": [{"text": "{}"}]}}]}, {"choices": 3})
    for body in ("<html>please log in</html>", {"choices": []}, {"hello": 1}, *odd):
        outcome = server.reply_of(200, body)
        assert isinstance(outcome, Failure)
        assert outcome.failing == "server"


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_line_of_a_batch_is_read_as_a_live_answer_is_also_where_a_server_leaves_fields_out(api: str) -> None:
    text = [{"type": "output_text", "text": "{}"}]
    body = {
        "chat": {"choices": [{"finish_reason": "stop", "message": {"content": "{}"}}], "usage": {"prompt_tokens": 3}},
        "responses": {"status": "completed", "output": [{"type": "message", "content": text}]},
    }[api]

    def outcome(body: Any) -> Reply | Failure | None:
        row = {"custom_id": "a", "response": {"status_code": 200, "body": body}, "error": None}
        ((key, found),) = read_output(annotator(api=api), json.dumps(row).encode())
        assert key == "a"
        return found

    tokens = 3 if api == "chat" else None
    assert outcome(body) == Reply("{}", None, "stop", tokens, None, 0, (None, None))
    for wrong in ({}, {"choices": 3, "status": "completed", "output": 3}, {"status": "failed", "output": []}):
        failure = outcome(wrong)
        assert isinstance(failure, Failure)
        assert failure.failing == "server"


def test_a_completion_brings_its_text_tokens_and_limits(server: Server) -> None:
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "{}"}}],
        "usage": {
            "prompt_tokens": 70,
            "completion_tokens": 5,
            "total_tokens": 75,
            "prompt_tokens_details": {"cached_tokens": 64},
        },
    }
    headers = {"x-ratelimit-limit-requests": "500", "x-ratelimit-limit-tokens": "30000"}
    assert server.reply_of(200, body, headers) == Reply("{}", None, "stop", 70, 5, 64, (500.0, 30000.0))
    del body["usage"]
    assert server.reply_of(200, body) == Reply("{}", None, "stop", None, None, 0, (None, None))


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1.0), ("6m0s", 360.0), ("120ms", 0.12), ("1h2m3.5s", 3723.5), ("", 0.0), ("soon", 0.0)]
)
def test_durations_as_headers_write_them(text: str, seconds: float) -> None:
    assert duration_seconds(text) == pytest.approx(seconds)


def test_a_key_that_is_not_set_is_named_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(AnnotatorError, match=r"environment variable NO_SUCH_KEY holds no key.*Set it on every node"):
        new_client(annotator(base_url="http://127.0.0.1:9/v1", api_key_env="NO_SUCH_KEY"), "http://127.0.0.1:9/v1")


def test_an_address_where_nothing_listens_is_named_with_the_remedy() -> None:
    with pytest.raises(AnnotatorError, match=r"does not answer at http://127.0.0.1:9/v1.*Start it or correct"):
        check_annotator(annotator(), "http://127.0.0.1:9/v1")


def ask_once(server: Server, settings: AnnotatorSettings, url: str) -> Reply | Failure:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "look"}, image]}]
    schema = {"type": "json_schema", "json_schema": {"name": "judgement", "strict": True, "schema": {"type": "object"}}}

    async def once() -> Reply | Failure:
        async with new_client(settings, url) as client:
            return await ask(client, settings, messages, schema)

    return asyncio.run(once())


def response(status: str, content: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    usage = {
        "input_tokens": 70,
        "output_tokens": 5,
        "total_tokens": 75,
        "input_tokens_details": {"cached_tokens": 64},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    said = {"id": "m", "type": "message", "role": "assistant", "status": status, "content": content}
    head = {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": status, "output": [said]}
    return {**head, "parallel_tool_calls": False, "tool_choice": "auto", "tools": [], "usage": usage, **more}


def test_models_that_chat_does_not_serve_are_asked_by_the_responses_api(server: Server) -> None:
    settings = annotator(model="gpt-5-pro", temperature=None)
    text = [{"type": "output_text", "text": "{}", "annotations": []}]
    server.reply(200, response("completed", text), {"x-ratelimit-limit-requests": "500"})
    assert ask_once(server, settings, server.url) == Reply("{}", None, "stop", 70, 5, 64, (500.0, None))
    asked = json.loads(server.asked)
    assert server.path == "/v1/responses"
    assert asked["input"][0]["content"][1] == {
        "type": "input_image",
        "image_url": "data:image/png;base64,AA==",
        "detail": "low",
    }
    assert asked["text"]["format"]["strict"] is True
    assert (asked["max_output_tokens"], asked["store"], "temperature" in asked) == (1500, False, False)
    cut = response("incomplete", text, incomplete_details={"reason": "max_output_tokens"})
    server.reply(200, cut)
    assert ask_once(server, settings, server.url).finish_reason == "length"
    server.reply(200, response("completed", [{"type": "refusal", "refusal": "no"}]))
    assert ask_once(server, settings, server.url).refusal == "no"
    server.reply(429, problem("rate_limit_exceeded"), {"retry-after": "2"})
    assert ask_once(server, settings, server.url).retry_after_seconds == 2.0


def test_an_azure_resource_is_asked_by_deployment_version_and_key(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_KEY", "secret")
    settings = annotator(
        base_url=server.url, model="my-deployment", azure_api_version="2025-04-01-preview", api_key_env="AZURE_KEY"
    )
    server.reply(400, problem("content_filter", "filtered"))
    outcome = ask_once(server, settings, server.url.removesuffix("/v1"))
    assert isinstance(outcome, Failure)
    assert outcome.failing == "filtered"
    assert server.path == "/openai/deployments/my-deployment/chat/completions?api-version=2025-04-01-preview"
    assert server.sent_headers["api-key"] == "secret"


def test_a_date_in_retry_after_is_a_time_from_now(server: Server) -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    outcome = server.reply_of(429, problem("rate_limit_exceeded"), {"retry-after": then})
    assert isinstance(outcome, Failure)
    assert 20.0 < outcome.retry_after_seconds <= 30.0


def test_annotators_of_one_address_key_and_model_are_one_account_and_the_name_tells_no_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ONE_KEY", "secret")
    monkeypatch.setenv("SAME_KEY", "secret")
    url = "http://127.0.0.1:9/v1"
    one, same = (annotator(base_url=url, api_key_env=name) for name in ("ONE_KEY", "SAME_KEY"))
    assert account_name(one, url) == account_name(same, f"{url}/")
    assert account_name(one, url) != account_name(one.model_copy(update={"model": "other"}), url)
    assert account_name(one.model_copy(update={"account": "a"}), url) == account_name(annotator(account="a"), "x")
    assert "secret" not in account_name(one, url)
