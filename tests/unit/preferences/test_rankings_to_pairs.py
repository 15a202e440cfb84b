import pyarrow as pa
import pytest

from vp_ray.errors import InputError
from vp_ray.preferences.answers import preferences_of_rankings
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.records import PROMPTS, RANKINGS

PROMPT = {"prompt_id": "p", "prompt": "a cat", "split": "train"}
PROMPT_TABLE = pa.Table.from_pylist([PROMPT], schema=PROMPTS)


def rankings(by_rater: dict[str, dict[str, int]], prompt_id: str = "p") -> pa.Table:
    rows = [
        {"prompt_id": prompt_id, "rater": rater, "image_id": image, "rank": rank}
        for rater, ranks in by_rater.items()
        for image, rank in ranks.items()
    ]
    return pa.Table.from_pylist(rows, schema=RANKINGS)


def test_the_probability_is_the_share_of_people_with_equal_ranks_as_halves() -> None:
    table = rankings({"1": {"a": 1, "b": 2}, "2": {"a": 2, "b": 1}, "3": {"a": 1, "b": 1}, "4": {"a": 1, "b": 3}})
    (row,) = preferences_of_rankings(table, PROMPT_TABLE, PreferenceSettings()).to_pylist()
    assert (row["image_id_a"], row["image_id_b"], row["aspect"]) == ("a", "b", "overall")
    assert row["probability_a"] == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert row["margin"] == pytest.approx((1 - 1 + 0 + 2) / 4)


def test_every_pair_is_there_once_and_undecided_ones_can_be_left_out() -> None:
    table = rankings({"1": {"c": 1, "a": 2, "b": 3}, "2": {"c": 1, "a": 3, "b": 2}})
    pairs = preferences_of_rankings(table, PROMPT_TABLE, PreferenceSettings()).to_pylist()
    assert [(row["image_id_a"], row["image_id_b"], row["probability_a"]) for row in pairs] == [
        ("a", "b", 0.5),
        ("a", "c", 0.0),
        ("b", "c", 0.0),
    ]
    assert preferences_of_rankings(table, PROMPT_TABLE, PreferenceSettings(keep_ties=False)).num_rows == 2


def test_only_people_who_saw_both_images_are_asked() -> None:
    table = rankings({"1": {"a": 1, "b": 2}, "2": {"a": 1}, "3": {"b": 1}})
    (row,) = preferences_of_rankings(table, PROMPT_TABLE, PreferenceSettings()).to_pylist()
    assert row["probability_a"] == 1.0


def test_a_ranking_of_an_unknown_prompt_is_refused() -> None:
    with pytest.raises(InputError, match="the prompt q has rankings"):
        preferences_of_rankings(rankings({"1": {"a": 1, "b": 2}}, "q"), PROMPT_TABLE, PreferenceSettings())
