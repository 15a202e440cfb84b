"""Whatever bytes come from outside, the answer is a value or the error that was promised, never another."""

from __future__ import annotations

import io
import json
import string
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vp_ray.config import override, read_yaml
from vp_ray.errors import InputError, SettingsError, StorageError
from vp_ray.judging.config import AnnotatorSettings
from vp_ray.judging.parsing import UnreadableReplyError, parse_reply
from vp_ray.judging.requests import fitted
from vp_ray.judging.rubric import Rubric
from vp_ray.pipeline.settings import JobSettings
from vp_ray.storage import MANIFEST, RunFolder

RUBRIC = Rubric.load("visionprefer")
ANNOTATOR = AnnotatorSettings(name="judge", model="m", base_url="embedded", image_side_pixels=16)
IMAGES = ("x", "y")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(RUBRIC.levels),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(("image_1", "image_2", "level", "rationale", *RUBRIC.aspects)) | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=24,
)
often = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 12), (200, 30, 30)).save(buffer, kind)
    return buffer.getvalue()


@often
@given(text=st.text() | JSON.map(json.dumps) | JSON.map(lambda value: f"```json\n{json.dumps(value)}\n```"))
def test_a_reply_is_levels_of_one_to_five_or_unreadable(text: str) -> None:
    try:
        levels = parse_reply(text, RUBRIC, IMAGES).levels
    except UnreadableReplyError:
        return
    assert {row["level"] for row in levels} <= {1, 2, 3, 4, 5}
    assert len(levels) == len(IMAGES) * len(RUBRIC.aspects)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "1" * 100_000, "NaN", "\ud800", "{{}}", "{[]: 1}"])
def test_a_reply_made_to_exhaust_the_parser_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableReplyError):
        parse_reply(text, RUBRIC, IMAGES)


@often
@given(
    data=st.binary(max_size=200)
    | st.tuples(
        st.sampled_from(("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")), st.integers(0, 400), st.binary(max_size=12)
    ).map(lambda cut: picture(cut[0])[: cut[1]] + cut[2] + picture(cut[0])[cut[1] :])
)
def test_bytes_are_a_small_picture_or_no_readable_image(data: bytes) -> None:
    try:
        sent, width, height = fitted(data, ANNOTATOR)
    except InputError:
        return
    assert max(width, height) <= 16
    assert Image.open(io.BytesIO(sent)).size == (width, height)


def test_a_picture_that_would_fill_the_memory_is_refused_before_it_is_decoded() -> None:
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    with pytest.raises(InputError, match="not a readable image"):
        fitted(bomb.getvalue(), ANNOTATOR)


@often
@given(text=st.text(st.characters(codec="utf-8"), max_size=60) | st.text(string.printable, max_size=60))
def test_a_job_file_is_a_mapping_or_a_settings_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(text.encode())
    try:
        values = read_yaml(path)
    except SettingsError as error:
        values = {"where": error.where.partition(":")[0] == str(path)}
    assert isinstance(values, dict)
    assert values.get("where", True)


def test_a_job_file_made_to_exhaust_the_parser_is_a_settings_error(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("a: " + "[" * 5_000)
    with pytest.raises(SettingsError, match=r"job\.yaml"):
        read_yaml(path)


@often
@given(assignment=st.text(max_size=20) | st.tuples(st.text("ab.0", max_size=8), JSON).map(lambda t: f"{t[0]}={t[1]}"))
def test_an_override_changes_a_copy_or_is_a_settings_error(assignment: str) -> None:
    values: dict[str, Any] = {"a": {"b": [1, 2]}, "b": 3}
    with suppress(SettingsError):
        override(values, [assignment])
    assert values == {"a": {"b": [1, 2]}, "b": 3}


@often
@given(values=st.dictionaries(st.sampled_from((*JobSettings.model_fields, "x")), JSON, max_size=3))
def test_settings_of_any_shape_are_settings_or_a_settings_error(values: dict[str, Any]) -> None:
    where = "job.yaml"
    try:
        JobSettings.load(values, "job.yaml")
    except SettingsError as error:
        where = error.where
    assert where == "job.yaml"


@often
@given(data=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_manifest_is_a_manifest_or_a_storage_error(tmp_path: Path, data: bytes) -> None:
    stage = RunFolder.at(tmp_path).stage("prompts")
    stage.write_bytes(MANIFEST, data)
    with pytest.raises(StorageError, match=r"manifest\.json"):
        stage.manifest()
