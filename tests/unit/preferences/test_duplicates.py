"""Near-duplicate prompts, splits that leak, and overlap with lists of test prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from vp_ray.errors import InputError, SettingsError
from vp_ray.maths.duplicates import NearDuplicates, shingles, similarity
from vp_ray.preferences.config import CheckSettings, PreferenceSettings
from vp_ray.preferences.prompt_lists import read_prompt_list
from vp_ray.preferences.splits import checked_prompts

LONG = "a watercolour painting of an old lighthouse on a cliff above a stormy sea at dusk"
TEXTS = [LONG, f"{LONG}.", f"{LONG} 4k", "two cats asleep on a red sofa", "TWO CATS  asleep on a red sofa!", "a dog"]


def table(texts: list[str], splits: list[str]) -> pa.Table:
    return pa.table({"prompt_id": [f"{n:02d}" for n in range(len(texts))], "prompt": texts, "split": splits})


def test_jaccard_similarity_of_shingles_by_hand() -> None:
    # "abcdef" has abcde and bcdef, "abcdeg" has abcde and bcdeg: one of three is shared.
    assert similarity(shingles("abcdef"), shingles("ABCDEG")) == pytest.approx(1 / 3)
    assert shingles("a-b") == shingles("a b") == frozenset({b"a b"})


def test_clusters_join_what_differs_by_a_word_or_by_case_and_nothing_else() -> None:
    assert NearDuplicates(TEXTS, 0.8).clusters().tolist() == [0, 0, 0, 3, 3, 5]


def test_a_thousand_different_prompts_stay_apart_and_their_copies_are_all_found() -> None:
    numbers = [(n * 7919 % 10007, n * 104729 % 99991, n * 31337 % 65537) for n in range(1000)]
    texts = [f"picture {one} of {two} things in style {three}" for one, two, three in numbers]
    copies = [text.replace("picture", "Picture") for text in texts]
    found = NearDuplicates(texts + copies, 0.9).clusters()
    assert found[:1000].tolist() == list(range(1000))
    assert found[1000:].tolist() == list(range(1000))


def test_clusters_that_reach_into_two_splits_are_counted_and_can_be_moved_into_one() -> None:
    prompts = table(TEXTS, ["train", "held_out", "train", "train", "train", "held_out"])
    same, found = checked_prompts(prompts, [f"{n:02d}" for n in range(6)], CheckSettings())
    assert (found["splits"]["clusters"], found["splits"]["clusters_in_several_splits"]) == (3, 1)
    assert found["splits"]["prompts_in_these"] == 3
    assert same["split"].to_pylist() == prompts["split"].to_pylist()
    moved, found = checked_prompts(prompts, [f"{n:02d}" for n in range(6)], CheckSettings(split_by="clusters"))
    assert moved["split"].to_pylist() == ["train", "train", "train", "train", "train", "held_out"]
    assert (found["splits"]["clusters_in_several_splits"], found["splits"]["prompts_moved"]) == (0, 1)


def test_only_prompts_that_pairs_are_made_of_are_looked_at() -> None:
    prompts, found = checked_prompts(table(TEXTS, ["train"] * 6), ["00", "05"], CheckSettings())
    assert prompts["prompt_id"].to_pylist() == ["00", "05"]
    assert found["splits"]["near_duplicates"] == 0


def test_prompts_on_a_list_are_counted_by_equality_and_nearness_and_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "test.json").write_text(json.dumps([{"prompt": TEXTS[0].upper()}, {"prompt": "A dog"}]))
    lists = {"test": str(tmp_path / "test.json")}
    ids = [f"{n:02d}" for n in range(6)]
    kept, found = checked_prompts(table(TEXTS, ["train"] * 6), ids, CheckSettings(test_prompts=lists))
    assert kept.num_rows == 6
    assert {key: found["overlap"]["lists"]["test"][key] for key in ("list", "equal", "near")} == {
        "list": 2,
        "equal": 3,
        "near": 1,
    }
    settings = CheckSettings(test_prompts=lists, on_overlap="remove")
    kept, found = checked_prompts(table(TEXTS, ["train"] * 6), ids, settings)
    assert kept["prompt_id"].to_pylist() == ["03", "04"]
    assert found["overlap"]["removed"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.txt", "a cat\n\na dog\n"),
        ("list.tsv", "Prompt\tCategory\na cat\tx\na dog\ty\n"),
        ("list.csv", "id,caption\n1,a cat\n2,a dog\n"),
        ("list.json", '["a cat", "a dog"]'),
        ("list.jsonl", '{"prompt": "a cat"}\n{"text": "a dog"}\n'),
        ("folder/list.txt", "a cat\na dog\n"),
    ],
)
def test_lists_are_read_in_the_forms_that_benchmarks_publish(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    place = path.parent if name.startswith("folder") else path
    assert read_prompt_list("x", str(place)) == ["a cat", "a dog"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.txt", None, "there is no such file"),
        ("list.json", "{", "cannot be read"),
        ("list.csv", "id\n1\n", "a row has none of prompt, caption, text"),
        ("list.txt", "\n", "there are no prompts"),
    ],
)
def test_a_list_that_cannot_be_used_is_named(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=rf"test_prompts\.parti: .*{said}"):
        read_prompt_list("parti", str(tmp_path / name))


def test_removal_without_lists_is_refused() -> None:
    with pytest.raises(SettingsError, match="has no effect without `test_prompts`"):
        PreferenceSettings.load({"checks": {"on_overlap": "remove"}})


def test_prompts_of_one_template_are_one_cluster_however_many_there_are() -> None:
    rest = "on a plain white table in soft light, sharp focus"
    texts = [f"a studio photograph of item {n:05d} {rest}" for n in range(3000)]
    assert set(NearDuplicates(texts, 0.8).clusters().tolist()) == {0}
