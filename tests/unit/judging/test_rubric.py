"""Rubrics: the packaged one, and files of one's own with their errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from vp_ray.errors import SettingsError
from vp_ray.judging.config import Mode
from vp_ray.judging.rubric import Rubric
from vp_ray.records import ASPECTS

OWN = """
name: own
version: 2
levels: [awful, bad, so-so, good, great]
instructions: Judge.
tasks:
  listwise: Rate all.
aspects:
  prompt_following: As asked?
  aesthetic: Pretty?
  fidelity: Sharp?
  harmlessness: Harmless?
"""


MODES: tuple[Mode, ...] = ("listwise", "pointwise", "pairwise")


def test_the_packaged_rubric_asks_for_the_four_aspects_on_five_levels() -> None:
    rubric = Rubric.load("visionprefer")
    assert rubric.aspects == ASPECTS
    assert len(rubric.levels) == 5
    for mode in MODES:
        text = Rubric.load("visionprefer", mode).text(mode, ASPECTS)
        assert all(f"## {aspect}\n" in text for aspect in ASPECTS)
        assert ("Levels: 1 - very poor; " in text) == (mode != "pairwise")


def test_one_changed_letter_gives_another_version(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(OWN)
    second.write_text(OWN.replace("Sharp?", "Sharp!"))
    versions = [Rubric.load(str(path)).version for path in (first, second)]
    assert versions[0] != versions[1]
    assert all(version.startswith("own-2-") for version in versions)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("so-so, ", "", "5 different levels"),
        ("so-so", "good", "5 different levels"),
        ("fidelity", "fidelty", "aspects must be among .* 'fidelty' is not"),
        ("  fidelity: Sharp?\n", "", "no guideline for fidelity"),
        ("fidelity: Sharp?", "fidelity: ' '", "no guideline for fidelity"),
        ("levels: [awful, bad, so-so, good, great]\n", "", "the key 'levels' is missing"),
        ("tasks:\n  listwise: Rate all.\n", "", "the key 'tasks' is missing"),
        ("listwise: Rate", "pairwise: Rate", "says nothing of the mode 'listwise'.*Add tasks.listwise"),
        ("listwise: Rate", "listwize: Rate", "tasks"),
        ("version: 2", "versions: 2", "did you mean 'version'"),
    ],
)
def test_a_rubric_that_cannot_be_used_is_refused_with_its_file(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(OWN.replace(old, new))
    with pytest.raises(SettingsError, match=complaint) as raised:
        Rubric.load(str(path))
    assert str(path) in str(raised.value)


def test_an_unknown_name_is_answered_with_those_that_exist() -> None:
    with pytest.raises(SettingsError, match=r"no rubric 'visionprefers'.*visionprefer"):
        Rubric.load("visionprefers")
