"""No key in what is written or shown: by its form, by the name of its variable, or because it was named."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from vp_ray.errors import AnnotatorError, SettingsError
from vp_ray.pipeline.settings import load_job
from vp_ray.redaction import REDACTED, holds_secret, keep_secret, redact, without_secrets
from vp_ray.storage import MANIFEST, STARTED, Manifest, RunFolder

KEY = "sk-proj-Ab12Cd34Ef56Gh78Ij90"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Incorrect API key provided: {KEY}.", f"Incorrect API key provided: {REDACTED}."),
        ("provided: sk-proj-**********90ab here", f"provided: {REDACTED} here"),
        ("Authorization: Bearer abc.def-123456", f"Authorization: Bearer {REDACTED}"),
        ("https://me:hunter22@host.example/v1", f"https://{REDACTED}@host.example/v1"),
        ("https://host/v1?api_key=0123456789&x=1", f"https://host/v1?api_key={REDACTED}&x=1"),
        ("hf_abcdefghijklmnopqrstuv", REDACTED),
        ("AKIAIOSFODNN7EXAMPLE", REDACTED),
        ("a task-oriented desk-lamp at 10:30 for 5 $", "a task-oriented desk-lamp at 10:30 for 5 $"),
        ("s3://bucket/run and user@host", "s3://bucket/run and user@host"),
    ],
)
def test_what_looks_like_a_key_goes_and_all_else_stays(text: str, left: str) -> None:
    assert redact(text) == left
    assert holds_secret(text) == (left != text)


def test_values_of_secret_variables_go_whatever_they_look_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "plain-looking")
    monkeypatch.setenv("A_KEY", "short")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falsefalse")
    assert redact("plain-looking short falsefalse") == f"{REDACTED} short falsefalse"
    assert redact("named by hand") == "named by hand"
    keep_secret("by-hand-9")
    assert redact("by-hand-9") == REDACTED


def test_a_secret_inside_another_is_not_left_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT_KEY", "abcdefgh")
    monkeypatch.setenv("LONG_KEY", "abcdefgh-ijklmnop")
    assert redact("<abcdefgh-ijklmnop>") == f"<{REDACTED}>"


def test_every_string_of_a_json_value_is_redacted_and_numbers_stay() -> None:
    value = {"a": [1, 2.5, None, True, {KEY: f"x {KEY}"}], 3: (KEY,)}
    assert without_secrets(value) == {"a": [1, 2.5, None, True, {REDACTED: f"x {REDACTED}"}], 3: [REDACTED]}


def test_an_error_shows_no_key_on_either_side_of_a_pickle() -> None:
    error = AnnotatorError(f"the server says: {KEY} is wrong", "Mend it.", f"https://u:{KEY}@host")
    for one in (error, pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own
        assert KEY not in str(one)
        assert "is wrong" in str(one)


def test_a_manifest_holds_no_key_and_the_stage_still_knows_its_settings(tmp_path: Path) -> None:
    stage = RunFolder.at(tmp_path).stage("annotate")
    settings = {"base_url": f"https://user:{KEY}@host/v1"}
    assert stage.start(settings, {})
    assert stage.start(settings, {}), "the same settings are not taken for others"
    finished = stage.finish(Manifest("annotate", settings, {}, {"scored": 1}, 1.0, figures={"note": KEY}))
    assert stage.finished() == finished
    assert not stage.start(settings, {})
    assert KEY not in (stage.read_bytes(MANIFEST) + stage.read_bytes(STARTED)).decode()


@pytest.mark.parametrize(
    "assignment",
    [
        f"annotate.annotators.0.base_url=https://u:{KEY}@host/v1",
        f"annotate.annotators.0.api_key_env={KEY}",
        f"run=/tmp/{KEY}",
    ],
)
def test_a_job_with_a_key_in_it_is_refused_without_repeating_the_key(assignment: str) -> None:
    with pytest.raises(SettingsError, match="holds a secret") as refused:
        load_job(Path("jobs/demo.yaml"), [assignment])
    assert assignment.partition("=")[0] in str(refused.value)
    assert KEY not in str(refused.value)
