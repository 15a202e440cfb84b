import pytest

from vp_ray.prompts.cleaning import clean, normalise
from vp_ray.prompts.config import PromptSettings
from vp_ray.prompts.reading import RawPrompt

SETTINGS = PromptSettings.load(
    {"sources": [{"kind": "text", "path": "x"}], "min_characters": 3, "max_characters": 20, "held_out_share": 0.3}
)


@pytest.mark.parametrize(
    ("raw", "clean_text"), [("  a\tred\n cat ", "a red cat"), ("ﬁsh", "fish"), ("a\u200bb\x00c", "a b c"), (" \n ", "")]
)
def test_white_space_controls_and_ligatures_are_normalised(raw: str, clean_text: str) -> None:
    assert normalise(raw) == clean_text


def test_every_prompt_is_counted_once_under_what_became_of_it() -> None:
    texts = ["A cat", "a  CAT", "", "ab", "x" * 21, "a dog", " a dog"]
    rows, counts = clean((RawPrompt(text, "f") for text in texts), SETTINGS)
    assert [row["prompt"] for row in rows] == ["A cat", "a dog"]
    assert counts == {"kept": 2, "duplicate": 2, "empty": 1, "too_short": 1, "too_long": 1}


def test_the_raw_prompt_stays_beside_the_clean_one() -> None:
    (row,), _ = clean([RawPrompt("a  cat", "f")], SETTINGS)
    assert (row["prompt"], row["prompt_raw"], row["flags"]) == ("a cat", "a  cat", ["normalised"])


def test_the_split_depends_on_the_prompt_and_not_on_its_place() -> None:
    texts = [f"prompt {n}" for n in range(400)]
    forward, _ = clean((RawPrompt(text, "f") for text in texts), SETTINGS)
    backward, _ = clean((RawPrompt(text, "f") for text in reversed(texts)), SETTINGS)
    assert {row["prompt"]: row["split"] for row in forward} == {row["prompt"]: row["split"] for row in backward}
    # 0.3 plus or minus four standard errors of 0.023.
    assert 0.21 < sum(row["split"] == "held_out" for row in forward) / 400 < 0.39


def test_a_split_that_the_source_fixed_is_kept() -> None:
    (row,), _ = clean([RawPrompt("a cat", "f", split="compositional")], SETTINGS)
    assert row["split"] == "compositional"
