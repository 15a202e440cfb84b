from __future__ import annotations

import base64
import copy
import io
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from openai.lib._pydantic import to_strict_json_schema
from PIL import Image
from pydantic import BaseModel

from vp_ray.shapeworld.judge_errors import RequestError
from vp_ray.shapeworld.judge_requests import decode_image, read_request, reserved_tokens
from vp_ray.shapeworld.judge_schema import LevelField, read_schema

RequestMaker = Callable[..., dict[str, Any]]
BLANK = np.full((32, 32, 3), 245, np.uint8)


class Level(BaseModel):
    rationale: str
    level: Literal["bad", "poor", "fair", "good", "best"]


class Aspects(BaseModel):
    fidelity: Level


class Answer(BaseModel):
    image_1: Aspects
    image_2: Aspects


def encoded(image: Image.Image, image_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format)
    return buffer.getvalue()


def test_a_request_is_read_with_its_prompt_unescaped_and_its_images_in_order(request_of: RequestMaker) -> None:
    images = [BLANK, np.zeros((32, 32, 3), np.uint8)]
    request = read_request(request_of("a <b> & </prompt> c", images, n=3, max_completion_tokens=50))
    assert request.prompt == "a <b> & </prompt> c"
    assert [int(decode_image(data, 1).mean()) for data in request.images] == [245, 0]
    assert [key for key, _ in request.asked.slots] == ["image_1", "image_2"]
    assert (request.choices, request.max_reply_tokens) == (3, 50)


def test_the_last_marked_text_is_the_prompt_and_not_a_rubric_that_speaks_of_the_mark(request_of: RequestMaker) -> None:
    body = request_of("a red circle", [BLANK])
    body["messages"].insert(0, {"role": "system", "content": "It stands between <prompt> and </prompt>."})
    assert read_request(body).prompt == "a red circle"


def test_tokens_are_a_quarter_of_the_characters_and_85_an_image_and_the_longest_reply() -> None:
    parts = [{"type": "text", "text": "x" * 41}, {"type": "image_url", "image_url": {"url": "data:"}}]
    body = {"messages": [{"role": "user", "content": parts}], "max_completion_tokens": 100}
    assert reserved_tokens(body) == 11 + 85 + 100


def test_a_schema_made_by_pydantic_with_references_and_worded_levels_is_understood() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": to_strict_json_schema(Answer)}}
    field = LevelField("fidelity", ("rationale", "level"), ("bad", "poor", "fair", "good", "best"))
    assert read_schema(schema).slots == (("image_1", (field,)), ("image_2", (field,)))


def test_numbers_are_sorted_and_words_are_taken_in_their_order(request_of: RequestMaker) -> None:
    down = read_schema(request_of("", [BLANK], ["fidelity"], levels=(5, 4, 3, 2, 1))["response_format"])
    assert down.slots[0][1][0].choices == (1, 2, 3, 4, 5)


def test_a_prompt_is_needed_only_where_prompt_following_is_asked(request_of: RequestMaker) -> None:
    for aspects, needed in ((["fidelity"], False), (["prompt_following"], True)):
        body = request_of("", [BLANK], aspects)
        del body["messages"][0]["content"][-1]
        if needed:
            with pytest.raises(RequestError, match="<prompt>"):
                read_request(body)
        else:
            assert read_request(body).prompt is None


def properties(body: dict[str, Any]) -> dict[str, Any]:
    return dict(body["response_format"]["json_schema"]["schema"]["properties"])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda body: body.pop("response_format"), "invalid_json_schema"),
        (lambda body: body.update(response_format={"type": "json_object"}), "invalid_json_schema"),
        (lambda body: body["response_format"]["json_schema"].pop("schema"), "invalid_json_schema"),
        (lambda body: properties(body)["image_1"].update(properties={"beauty": {}}), "invalid_json_schema"),
        (lambda body: properties(body)["image_1"].update({"$ref": "#/$defs/Nothing"}), "invalid_json_schema"),
        (lambda body: properties(body)["image_1"]["properties"].update(fidelity={"enum": [1]}), "invalid_json_schema"),
        (lambda body: body["messages"][0]["content"].pop(2), "images_mismatch"),
        (lambda body: body.update(messages=[]), "invalid_messages"),
        (lambda body: body["messages"][0]["content"].append({"type": "input_audio"}), "invalid_content"),
        (lambda body: body.update(n=0), "invalid_value"),
        (lambda body: body.update(n=1000), "invalid_value"),
        (lambda body: body.update(stream=True), "unsupported_value"),
        (lambda body: body.update(model="gpt-4o"), "model_not_found"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_with_its_code(
    request_of: RequestMaker, change: Callable[[dict[str, Any]], Any], code: str
) -> None:
    body = copy.deepcopy(request_of("a red circle", [BLANK]))
    change(body)
    with pytest.raises(RequestError) as caught:
        read_request(body)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://example.org/cat.png", "invalid_image_url"),
        ("data:image/gif;base64,R0lGODlh", "invalid_image_url"),
        ("data:image/png;base64,@@@@", "invalid_image"),
        ("data:image/png;base64," + "A" * (12 * 1024 * 1024), "image_too_large"),
    ],
)
def test_an_image_that_is_no_small_data_url_is_refused(request_of: RequestMaker, url: str, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_request(request_of("a red circle", [url]))
    assert caught.value.code == code


def test_broken_and_huge_images_are_refused_before_they_are_decoded() -> None:
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)))
    for data in (b"", b"no image", whole[:200], encoded(Image.new("RGB", (8, 8)), "GIF")):
        with pytest.raises(RequestError, match="Image 3 cannot be decoded"):
            decode_image(data, 3)
    with pytest.raises(RequestError, match="4097 x 1 pixels"):
        decode_image(encoded(Image.new("L", (4097, 1))), 1)
    # A picture of 40,000 x 40,000 pixels in a few bytes: only its header is read.
    header = bytearray(encoded(Image.new("L", (1, 1))))
    header[16:24] = (40_000).to_bytes(4, "big") * 2
    with pytest.raises(RequestError):
        decode_image(bytes(header), 1)


def test_gray_and_transparent_and_jpeg_images_become_rgb() -> None:
    for mode, image_format in (("L", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGB", "JPEG")):
        assert decode_image(encoded(Image.new(mode, (5, 4)), image_format), 1).shape == (4, 5, 3)


def test_a_base64_image_of_a_real_size_passes() -> None:
    data = encoded(Image.new("RGB", (512, 512), "red"))
    assert decode_image(base64.b64decode(base64.b64encode(data)), 1).shape == (512, 512, 3)
