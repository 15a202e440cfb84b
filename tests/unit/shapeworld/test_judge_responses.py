"""The judge under the Responses API: what it says there is what it says in chat completions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from numpy.typing import NDArray
from openai import OpenAI

from vp_ray.shapeworld.config import FaultSettings, JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge
from vp_ray.shapeworld.render import Arrangement
from vp_ray.shapeworld.scenes import Scene, prompt_of

Pictures = tuple[list[Scene], list[Arrangement], NDArray[Any]]
RequestMaker = Callable[..., dict[str, Any]]


def client(url: str) -> OpenAI:
    return OpenAI(base_url=url, api_key="any", max_retries=0, timeout=20)


def of_chat(request: dict[str, Any]) -> dict[str, Any]:
    """The same request in the words of the Responses API."""
    (message,) = request["messages"]
    parts = [
        {"type": "input_text", "text": part["text"]}
        if part["type"] == "text"
        else {"type": "input_image", "image_url": part["image_url"]["url"], "detail": "auto"}
        for part in message["content"]
    ]
    return {
        "model": request["model"],
        "input": [{"role": "user", "content": parts}],
        "text": {"format": {"type": "json_schema", **request["response_format"]["json_schema"]}},
    }


def test_both_apis_give_one_answer_for_the_same_tokens(
    judge_url: str, pictures: Pictures, request_of: RequestMaker
) -> None:
    request = request_of(prompt_of(pictures[0][1]), pictures[2][:4])
    chat = client(judge_url).chat.completions.create(**request)
    response = client(judge_url).responses.create(**of_chat(request))
    assert response.output_text == chat.choices[0].message.content
    assert response.status == "completed"
    assert response.usage is not None
    assert chat.usage is not None
    counts = (response.usage.input_tokens, response.usage.output_tokens)
    assert counts == (chat.usage.prompt_tokens, chat.usage.completion_tokens)


def test_a_long_reply_and_a_refusal_say_so_and_an_earlier_answer_may_be_part_of_the_question(
    judge_url: str, pictures: Pictures, request_of: RequestMaker
) -> None:
    asked = of_chat(request_of(prompt_of(pictures[0][0]), pictures[2][:2]))
    cut = client(judge_url).responses.create(**asked, max_output_tokens=20)
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert (cut.incomplete_details.reason, len(cut.output_text)) == ("max_output_tokens", 80)
    whole = client(judge_url).responses.create(**asked)
    talk = [*asked["input"], {"role": "assistant", "content": "{"}, {"role": "user", "content": "All of it."}]
    again = client(judge_url).responses.create(**{**asked, "input": talk})
    assert json.loads(again.output_text) == json.loads(whole.output_text)
    refused = client(judge_url).responses.create(**of_chat(request_of("an oil painting", pictures[2][:1])))
    (part,) = refused.output[0].content  # type: ignore[union-attr]
    assert part.type == "refusal"
    assert "not a scene of the embedded world" in part.refusal


def test_limits_and_filters_hold_for_responses_too(pictures: Pictures, request_of: RequestMaker) -> None:
    asked = of_chat(request_of(prompt_of(pictures[0][0]), pictures[2][:1]))
    with running_judge(JudgeSettings(requests_per_minute=1, faults=FaultSettings(content_filtered=1.0))) as url:
        filtered = client(url).responses.create(**asked)
        assert filtered.incomplete_details is not None
        assert (filtered.incomplete_details.reason, filtered.output) == ("content_filter", [])
        with pytest.raises(openai.RateLimitError):
            client(url).responses.create(**asked)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"input": 3}, "'input' must be"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "neither input_text nor input_image"),
        ({"text": {"format": {"type": "text"}}}, "must be of type json_schema"),
        ({"model": "gpt-9"}, "does not exist"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(
    judge_url: str, pictures: Pictures, request_of: RequestMaker, change: dict[str, Any], problem: str
) -> None:
    asked = of_chat(request_of("a red circle", pictures[2][:1]))
    with pytest.raises(openai.APIStatusError, match=problem):
        client(judge_url).responses.create(**{**asked, **change})
