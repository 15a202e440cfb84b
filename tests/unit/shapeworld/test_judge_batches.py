from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from openai import OpenAI
from openai.types import Batch

from vp_ray.shapeworld.config import FaultSettings, JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge
from vp_ray.shapeworld.judge_uploads import read_upload
from vp_ray.shapeworld.render import Arrangement
from vp_ray.shapeworld.scenes import Scene, prompt_of

Pictures = tuple[list[Scene], list[Arrangement], NDArray[np.uint8]]
RequestMaker = Callable[..., dict[str, Any]]


@pytest.fixture
def client(judge_url: str) -> OpenAI:
    return OpenAI(base_url=judge_url, api_key="any", max_retries=0, timeout=20)


def line(name: str, body: dict[str, Any]) -> str:
    return json.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body})


def started(client: OpenAI, lines: list[str]) -> Batch:
    file = client.files.create(file=("requests.jsonl", "\n".join(lines).encode()), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"group": "first"}
    )


def ended(client: OpenAI, batch: Batch) -> Batch:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        batch = client.batches.retrieve(batch.id)
        if batch.status in ("completed", "failed", "cancelled"):
            return batch
        time.sleep(0.05)
    raise AssertionError(f"the batch is still {batch.status}")


def rows(client: OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    assert file_id is not None
    content = client.files.content(file_id).content
    return {row["custom_id"]: row for row in map(json.loads, content.splitlines())}


def test_a_batch_answers_as_live_requests_do_and_sets_failed_lines_apart(
    client: OpenAI, pictures: Pictures, request_of: RequestMaker
) -> None:
    requests = [request_of(prompt_of(pictures[0][n]), pictures[2][n : n + 2]) for n in range(5)]
    bad = {**requests[0], "messages": []}
    batch = ended(client, started(client, [*(line(f"row-{n}", r) for n, r in enumerate(requests)), line("bad", bad)]))
    assert batch.status == "completed"
    assert batch.metadata == {"group": "first"}
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 6, "completed": 5, "failed": 1}
    good = rows(client, batch.output_file_id)
    assert sorted(good) == [f"row-{n}" for n in range(5)]
    for number, request in enumerate(requests):
        live = client.chat.completions.create(**request).choices[0].message.content
        assert good[f"row-{number}"]["response"]["body"]["choices"][0]["message"]["content"] == live
    failed = rows(client, batch.error_file_id)["bad"]["response"]
    assert (failed["status_code"], failed["body"]["error"]["code"]) == (400, "invalid_messages")
    assert batch.id in [known.id for known in client.batches.list()]


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([], "empty_file"),
        (["{"], "invalid_json_line"),
        (['{"custom_id": "a"}'], "invalid_request"),
        ([line("a", {}), line("a", {})], "duplicate_custom_id"),
        ([line("a", {"model": "one"}), line("b", {"model": "other"})], "mismatched_model"),
    ],
)
def test_a_file_that_is_no_batch_fails_with_the_line_that_is_wrong(client: OpenAI, lines: list[str], code: str) -> None:
    batch = ended(client, started(client, lines))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [error.code for error in batch.errors.data or []] == [code]


def test_a_cancelled_batch_hands_out_what_it_has(client: OpenAI, pictures: Pictures, request_of: RequestMaker) -> None:
    scenes, _, images = pictures
    lines = [
        line(f"row-{n}", request_of(prompt_of(scenes[n]), np.roll(images, 1, axis=0)[n : n + 1])) for n in range(400)
    ]
    batch = started(client, lines)
    assert client.batches.cancel(batch.id).status == "cancelling"
    batch = ended(client, batch)
    assert batch.status == "cancelled"
    assert batch.request_counts is not None
    assert batch.request_counts.completed < 400
    if batch.output_file_id is not None:
        assert len(rows(client, batch.output_file_id)) == batch.request_counts.completed


def test_files_are_kept_byte_for_byte_until_they_are_deleted(client: OpenAI) -> None:
    data = '{"text": "ä\u2028"}\r\n\n{"text": "--"}\n'.encode()
    file = client.files.create(file=("späte.jsonl", data), purpose="batch")
    assert (file.bytes, file.filename) == (len(data), "späte.jsonl")
    assert client.files.content(file.id).content == data
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_what_is_no_batch_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.batches.create(input_file_id="file-0", endpoint="/v1/chat/completions", completion_window="24h")
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(input_file_id="file-0", endpoint="/v1/embeddings", completion_window="24h")
    assert caught.value.param == "endpoint"
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_0")


def test_faults_of_the_connection_are_failed_lines_in_a_batch(pictures: Pictures, request_of: RequestMaker) -> None:
    with running_judge(JudgeSettings(faults=FaultSettings(reset=0.5, refused=0.5))) as url:
        client = OpenAI(base_url=url, api_key="any", max_retries=0, timeout=20)
        body = request_of(prompt_of(pictures[0][0]), pictures[2][:1])
        batch = ended(client, started(client, [line(f"row-{n}", body) for n in range(20)]))
        failed, refused = rows(client, batch.error_file_id), rows(client, batch.output_file_id)
    assert len(failed) + len(refused) == 20
    assert {row["response"]["status_code"] for row in failed.values()} == {500}
    assert all(row["response"]["body"]["choices"][0]["message"]["refusal"] for row in refused.values())


def test_a_form_is_taken_apart_by_the_names_of_its_parts() -> None:
    body = (
        b'--X\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}\r\n\xff\r\n--X--\r\n'
    )
    assert read_upload("multipart/form-data; boundary=X", body) == {
        "purpose": ("", b"batch"),
        "file": ("a.jsonl", b"{}\r\n\xff"),
    }
