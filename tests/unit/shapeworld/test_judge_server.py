from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from openai import AsyncOpenAI, OpenAI
from openai.types.chat.chat_completion import Choice

from vp_ray.errors import AnnotatorError
from vp_ray.records import ASPECTS
from vp_ray.shapeworld.config import FaultSettings, JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge
from vp_ray.shapeworld.judgement import judge_image
from vp_ray.shapeworld.render import Arrangement
from vp_ray.shapeworld.scenes import Scene, prompt_of

Pictures = tuple[list[Scene], list[Arrangement], NDArray[np.uint8]]
RequestMaker = Callable[..., dict[str, Any]]
StatsReader = Callable[[str], dict[str, Any]]


def client(url: str, **more: Any) -> OpenAI:
    return OpenAI(**{"base_url": url, "api_key": "any", "max_retries": 0, "timeout": 20, **more})


def answer(url: str, request: dict[str, Any]) -> dict[str, Any]:
    content = client(url).chat.completions.create(**request).choices[0].message.content
    assert content is not None
    return dict(json.loads(content))


def levels(url: str, request: dict[str, Any]) -> list[list[int]]:
    return [[aspect["level"] for aspect in image.values()] for image in answer(url, request).values()]


def test_the_oracle_answers_the_noise_free_levels_of_each_image_in_its_place(
    judge_url: str, pictures: Pictures, request_of: RequestMaker
) -> None:
    scenes, _, images = pictures
    said = answer(judge_url, request_of(prompt_of(scenes[0]), images[:4], model="shapeworld-oracle"))
    for number in range(4):
        for aspect, opinion in judge_image(scenes[0], images[number]).items():
            assert said[f"image_{number + 1}"][aspect] == {"rationale": opinion.rationale, "level": opinion.level}


def test_worded_levels_chosen_aspects_and_the_order_of_keys_are_those_of_the_schema(
    judge_url: str, pictures: Pictures, request_of: RequestMaker
) -> None:
    words = ["1 - bad", "2 - poor", "3 - fair", "4 - good", "5 - best"]
    aspects = ["harmlessness", "prompt_following"]
    request = request_of(prompt_of(pictures[0][0]), pictures[2][:1], aspects, words, model="shapeworld-oracle")
    image = answer(judge_url, request)["image_1"]
    assert list(image) == aspects
    assert list(image["harmlessness"]) == ["rationale", "level"]
    assert {aspect["level"] for aspect in image.values()} == {"5 - best"}


def test_the_same_request_is_answered_the_same_also_by_another_process(
    judge_url: str, pictures: Pictures, request_of: RequestMaker
) -> None:
    request = request_of(prompt_of(pictures[0][1]), pictures[2][:4])
    first = levels(judge_url, request)
    assert first == levels(judge_url, request)
    with running_judge(JudgeSettings()) as other:
        assert first == levels(other, request)
    with running_judge(JudgeSettings(seed=1)) as other:
        assert first != levels(other, request)


def test_choices_of_one_request_differ_and_the_tokens_of_all_are_counted(
    judge_url: str, pictures: Pictures, request_of: RequestMaker
) -> None:
    request = request_of(prompt_of(pictures[0][1]), pictures[2][:4])
    reply = client(judge_url).chat.completions.create(**request, n=3)
    contents = [choice.message.content or "" for choice in reply.choices]
    assert len(set(contents)) == 3
    assert reply.usage is not None
    assert reply.usage.completion_tokens == sum(-(-len(content) // 4) for content in contents)
    texts = [part["text"] for part in request["messages"][0]["content"] if part["type"] == "text"]
    assert reply.usage.prompt_tokens == 4 * 85 + sum(-(-len(text) // 4) for text in texts)


def test_a_prompt_outside_the_grammar_is_refused_where_prompt_following_is_asked(
    judge_url: str, pictures: Pictures, request_of: RequestMaker
) -> None:
    image = pictures[2][:1]
    message = client(judge_url).chat.completions.create(**request_of("an oil painting", image)).choices[0].message
    assert message.content is None
    assert "not a scene of the embedded world" in str(message.refusal)
    assert len(levels(judge_url, request_of("an oil painting", image, ["fidelity"]))) == 1


def test_a_reply_longer_than_the_client_lets_it_be_ends_with_length(
    judge_url: str, pictures: Pictures, request_of: RequestMaker
) -> None:
    request = request_of(prompt_of(pictures[0][0]), pictures[2][:2], max_completion_tokens=20)
    choice = client(judge_url).chat.completions.create(**request).choices[0]
    assert choice.finish_reason == "length"
    assert len(choice.message.content or "") == 80


def test_bad_requests_get_the_error_that_the_client_has_a_class_for(
    judge_url: str, pictures: Pictures, request_of: RequestMaker
) -> None:
    request = request_of("a red circle", pictures[2][:1])
    with pytest.raises(openai.BadRequestError) as caught:
        client(judge_url).chat.completions.create(**{**request, "response_format": {"type": "text"}})
    assert (caught.value.code, caught.value.param) == ("invalid_json_schema", "response_format")
    with pytest.raises(openai.NotFoundError) as missing:
        client(judge_url).chat.completions.create(**{**request, "model": "gpt-4o"})
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as broken:
        client(judge_url).chat.completions.create(**request_of("a red circle", ["data:image/png;base64,AAAA"]))
    assert broken.value.code == "invalid_image"
    assert [model.id for model in client(judge_url).models.list()] == ["shapeworld-judge", "shapeworld-oracle"]


def test_noise_and_bias_are_the_ones_that_were_set(pictures: Pictures, request_of: RequestMaker) -> None:
    settings = JudgeSettings(noise=0.0, position_bias=(0.0, -2.0))
    with running_judge(settings) as url:
        image = pictures[2][0]
        first, second = levels(url, request_of(prompt_of(pictures[0][0]), [image, image], ["fidelity"]))
        assert (first, second) == ([5], [3])
        oracle = request_of(prompt_of(pictures[0][0]), [image, image], ["fidelity"], model="shapeworld-oracle")
        assert levels(url, oracle) == [[5], [5]]


def test_further_models_err_by_themselves_and_bill_by_patches(pictures: Pictures, request_of: RequestMaker) -> None:
    models = {"biased": {"noise": 0.0, "position_bias": [0.0, -2.0], "patch_pixels": 8}, "one": {}, "other": {}}
    with running_judge(JudgeSettings.load({"noise": 0.0, "models": models})) as url:
        image, prompt = pictures[2][0], prompt_of(pictures[0][0])
        assert levels(url, request_of(prompt, [image, image], ["fidelity"], model="biased")) == [[5], [3]]
        assert levels(url, request_of(prompt, [image, image], ["fidelity"])) == [[5], [5]]
        shown = [*pictures[2][:4]]
        said = [levels(url, request_of(prompt, shown, ["fidelity"], model=name)) for name in ("one", "other")]
        assert said[0] != said[1]
        usage = [
            client(url).chat.completions.create(**request_of(prompt, [image], ["fidelity"], model=name)).usage
            for name in ("biased", "shapeworld-judge")
        ]
        assert usage[0].prompt_tokens == usage[1].prompt_tokens - 85 + 16
        assert [model.id for model in client(url).models.list()][2:] == ["biased", "one", "other"]


def test_only_those_with_the_key_are_let_in(pictures: Pictures, request_of: RequestMaker) -> None:
    request = request_of(prompt_of(pictures[0][0]), pictures[2][:1])
    with running_judge(JudgeSettings(api_key="right")) as url:
        with pytest.raises(openai.AuthenticationError) as caught:
            client(url, api_key="wrong").chat.completions.create(**request)
        assert caught.value.code == "invalid_api_key"
        assert client(url, api_key="right").chat.completions.create(**request).choices


def test_the_request_after_the_limit_gets_429_with_the_time_to_wait_and_headers_on_every_reply(
    pictures: Pictures, request_of: RequestMaker, stats_of: StatsReader
) -> None:
    request = request_of(prompt_of(pictures[0][0]), pictures[2][:1])
    with running_judge(JudgeSettings(requests_per_minute=2, tokens_per_minute=100_000)) as url:
        remaining = []
        for _ in range(2):
            raw = client(url).chat.completions.with_raw_response.create(**request)
            remaining.append(raw.headers["x-ratelimit-remaining-requests"])
        assert remaining == ["1", "0"]
        assert raw.headers["x-ratelimit-limit-tokens"] == "100000"
        with pytest.raises(openai.RateLimitError) as caught:
            client(url).chat.completions.create(**request)
        assert caught.value.code == "rate_limit_exceeded"
        assert 50 <= int(caught.value.response.headers["retry-after"]) <= 60
        assert 50_000 <= int(caught.value.response.headers["retry-after-ms"]) <= 60_000
        assert stats_of(url)["answers"] == {"200": 2, "429": 1}
        assert (stats_of(url)["bodies_judged"], stats_of(url)["bodies_judged_again"]) == (1, 1)


def test_an_account_whose_quota_is_used_up_says_so(pictures: Pictures, request_of: RequestMaker) -> None:
    request = request_of(prompt_of(pictures[0][0]), pictures[2][:1])
    with running_judge(JudgeSettings(quota_requests=1)) as url:
        client(url).chat.completions.create(**request)
        with pytest.raises(openai.RateLimitError) as caught:
            client(url).chat.completions.create(**request)
        assert caught.value.code == "insufficient_quota"


def outcome(url: str, request: dict[str, Any]) -> str:
    """What a client makes of a request, in the words of the faults."""
    try:
        choice = client(url, timeout=4).chat.completions.create(**request).choices[0]
    except openai.APITimeoutError:
        return "timeout"
    except openai.APIConnectionError:
        return "reset"
    except openai.InternalServerError:
        return "server_error"
    except openai.RateLimitError as error:
        return "with reason" if "retry-after" in error.response.headers else "rate_limited"
    return reading(choice)


def reading(choice: Choice) -> str:
    if choice.message.refusal:
        return "refused"
    try:
        json.loads(choice.message.content or "{}")
    except ValueError:
        return {"length": "truncated", "stop": "malformed"}[choice.finish_reason]
    return {"content_filter": "content_filtered", "stop": "sound"}[choice.finish_reason]


def test_every_fault_reaches_the_client_as_what_it_is(
    pictures: Pictures, request_of: RequestMaker, stats_of: StatsReader
) -> None:
    request = request_of(prompt_of(pictures[0][0]), pictures[2][:1], ["fidelity"])
    names = FaultSettings().shares()
    faults = FaultSettings(**{**dict.fromkeys(names, 0.12), "timeout": 0.03}, timeout_seconds=60)
    with running_judge(JudgeSettings(faults=faults)) as url:
        seen = Counter(outcome(url, request) for _ in range(60))
        stats = stats_of(url)
    assert set(seen) == {*names, "sound"}
    assert stats["faults"] == {name: seen[name] for name in names}
    assert stats["bodies_judged"] == 1
    assert stats["images_judged"] == seen["sound"]


async def _flood(url: str, requests: list[dict[str, Any]]) -> list[str]:
    async with AsyncOpenAI(base_url=url, api_key="any", max_retries=0, timeout=60) as many:
        replies = await asyncio.gather(*(many.chat.completions.create(**request) for request in requests))
    return [reply.choices[0].message.content or "" for reply in replies]


def test_requests_that_come_together_are_answered_as_if_they_came_alone(
    judge_url: str, pictures: Pictures, request_of: RequestMaker, stats_of: StatsReader
) -> None:
    requests = [request_of(prompt_of(pictures[0][n]), pictures[2][n : n + 2]) for n in range(100)]
    together = asyncio.run(_flood(judge_url, requests))
    alone = [json.dumps(answer(judge_url, request)) for request in requests[:5]]
    assert together[:5] == alone
    assert all(set(json.loads(content)["image_2"]) == set(ASPECTS) for content in together)
    assert stats_of(judge_url)["peak_requests_per_second"] > 5


def test_latency_is_waited_for_side_by_side(pictures: Pictures, request_of: RequestMaker) -> None:
    requests = [request_of(prompt_of(pictures[0][n]), pictures[2][n : n + 1]) for n in range(8)]
    with running_judge(JudgeSettings(latency_seconds=0.8)) as url:
        started = time.monotonic()
        asyncio.run(_flood(url, requests))
        assert 0.8 <= time.monotonic() - started < 8 * 0.8


def answers(url: str) -> bool:
    host = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((host.hostname, host.port)) == 0


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_the_judge_ends_with_its_context_also_while_a_request_hangs(
    pictures: Pictures, request_of: RequestMaker
) -> None:
    with running_judge(JudgeSettings(faults=FaultSettings(timeout=1, timeout_seconds=60))) as url:
        with pytest.raises(openai.APITimeoutError):
            client(url, timeout=0.3).chat.completions.create(**request_of("a red circle", pictures[2][:1]))
        started = time.monotonic()
    assert time.monotonic() - started < 5
    assert not answers(url)


def test_the_judge_ends_when_the_process_that_started_it_is_killed() -> None:
    program = (
        "import time\n"
        "from vp_ray.shapeworld.config import JudgeSettings\n"
        "from vp_ray.shapeworld.judge_server import running_judge\n"
        "with running_judge(JudgeSettings()) as url:\n"
        "    print(url, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert answers(url)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    assert eventually(lambda: not answers(url))


def test_in_the_foreground_it_prints_where_it_is_and_ends_on_an_interrupt() -> None:
    program = (
        "from vp_ray.shapeworld.config import JudgeSettings\n"
        "from vp_ray.shapeworld.judge_server import serve\n"
        "serve(JudgeSettings())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as judge:
        assert judge.stdout is not None
        assert judge.stderr is not None
        url = judge.stdout.readline().decode().removeprefix("judge at ").strip()
        assert [model.id for model in client(url).models.list()] == ["shapeworld-judge", "shapeworld-oracle"]
        judge.send_signal(signal.SIGINT)
        assert judge.wait(30) == 0
        assert b"Traceback" not in judge.stderr.read()


def test_a_port_that_is_taken_is_refused_with_a_remedy() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = running_judge(JudgeSettings(port=port))
        with pytest.raises(AnnotatorError, match=f"cannot listen on 127.0.0.1:{port}.*Set another port"):
            taken.__enter__()
