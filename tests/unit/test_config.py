from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field

from vp_ray.config import Settings, difference, override, read_yaml
from vp_ray.errors import SettingsError


class Inner(Settings):
    operational: ClassVar[frozenset[str]] = frozenset({"threads"})

    epochs: int = 1
    threads: int = 2


class Outer(Settings):
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    name: str = "x"


def test_a_misspelt_key_is_refused_by_name_with_the_nearest_one() -> None:
    with pytest.raises(SettingsError, match=r"job\.yaml: there is no key 'inner\.epoch' \(did you mean 'epochs'\?\)"):
        Outer.load({"inner": {"epoch": 3}}, "job.yaml")


def test_a_list_that_lacks_only_what_is_refused_is_not_called_too_short() -> None:
    class Full(Settings):
        many: tuple[Inner, ...] = Field(min_length=1)

    with pytest.raises(SettingsError) as refused:
        Full.load({"many": [{"thread": 1}]})
    assert "at least" not in str(refused.value)
    with pytest.raises(SettingsError, match="'many': Tuple should have at least 1 item"):
        Full.load({"many": []})


def test_a_misspelt_key_inside_a_list_is_named_with_its_place() -> None:
    with pytest.raises(SettingsError, match=r"'many\.1\.thread' \(did you mean 'threads'\?\)"):
        Outer.load({"many": [{}, {"thread": 1}]})


def test_a_value_of_the_wrong_type_is_shown() -> None:
    with pytest.raises(SettingsError, match=r"'inner\.epochs'.*'soon'"):
        Outer.load({"inner": {"epochs": "soon"}})


def test_recorded_settings_leave_out_what_does_not_change_the_result() -> None:
    settings = Outer.load({"many": [{"threads": 5}]})
    assert settings.recorded() == {"inner": {"epochs": 1}, "many": [{"epochs": 1}], "name": "x"}


def test_overrides_reach_into_mappings_and_lists_and_are_read_as_yaml() -> None:
    values = {"inner": {"epochs": 1}, "many": [{"epochs": 1}]}
    changed = override(values, ["inner.epochs=3", "many.0.epochs=4", "new.key=[1, a]"])
    assert changed == {"inner": {"epochs": 3}, "many": [{"epochs": 4}], "new": {"key": [1, "a"]}}
    assert values == {"inner": {"epochs": 1}, "many": [{"epochs": 1}]}


@pytest.mark.parametrize("assignment", ["epochs", "=3", "name.deep=1", "many.7.epochs=1"])
def test_an_override_that_cannot_be_applied_is_refused(assignment: str) -> None:
    with pytest.raises(SettingsError, match="--set"):
        override({"name": "x", "many": []}, [assignment])


def test_environment_variables_are_filled_in_and_missing_ones_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("run: ${RUNS:-here}/demo\ndeep: {list: ['${HOST}']}\n")
    monkeypatch.delenv("RUNS", raising=False)
    monkeypatch.setenv("HOST", "node")
    assert read_yaml(job) == {"run": "here/demo", "deep": {"list": ["node"]}}
    monkeypatch.delenv("HOST")
    with pytest.raises(SettingsError, match="HOST is not set"):
        read_yaml(job)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("a: [1\nb: 2", r"job\.yaml:2: this is not valid YAML"), ("- a", "must hold keys"), ("", "must hold keys")],
)
def test_a_broken_job_file_is_named_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(text)
    with pytest.raises(SettingsError, match=problem):
        read_yaml(job)


def test_a_missing_job_file_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no such file.*jobs/demo\.yaml"):
        read_yaml(tmp_path / "none.yaml")


def test_a_difference_names_each_changed_key_once() -> None:
    assert difference({"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"b": 1, "c": 3}, "e": 4}) == [
        "a.c: 2 -> 3",
        "d: 1 -> None",
        "e: None -> 4",
    ]
