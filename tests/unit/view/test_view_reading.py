"""The columns and chunks that the page gets are those of the run."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.judged_runs import SECRET, judged_run
from tests.small_runs import small_run
from vp_ray.errors import InputError, StorageError
from vp_ray.preferences.config import PreferenceSettings, SelfSupervisedSettings
from vp_ray.records import ASPECTS, OVERALL, SELF_SUPERVISED
from vp_ray.storage import RunFolder
from vp_ray.view.chunks import GROUPS_PER_CHUNK, MARGIN_UNIT, PROBABILITY_UNIT, Chunks
from vp_ray.view.reading import ViewData, read_view


def taken(chunks: Chunks, name: str) -> dict[str, Any]:
    script = chunks.script(name)
    assert script.isascii()
    assert script.startswith(f'vpTake("{name}",'.encode())
    assert script.endswith(b");\n")
    assert script.count(b"\n") == 1
    value: dict[str, Any] = json.loads(script[len(f'vpTake("{name}",') : -3])
    return value


def column(chunk: dict[str, Any], name: str) -> np.ndarray:
    packed = chunk["columns"][name]
    return np.frombuffer(base64.b64decode(packed["data"]), packed["kind"].removesuffix("Array").lower())


def test_every_preference_is_in_the_columns_of_its_aspect(data: ViewData, shapes: RunFolder) -> None:
    chunks = Chunks(data, "shapes", served=False)
    index = taken(chunks, "index")
    ids = data.images["image_id"].to_pylist()
    first, second, group = (column(index, name) for name in ("first", "second", "group"))
    places = {(ids[a], ids[b]): pair for pair, (a, b) in enumerate(zip(first, second, strict=True))}
    aspects = {aspect: taken(chunks, f"aspect-{aspect}") for aspect in index["aspects"]}
    assert index["aspects"] == [OVERALL, *ASPECTS]
    rows = shapes.stage("preferences").read_table("preferences.parquet").to_pylist()
    assert len(rows) == sum((column(chunk, "probability") != 65535).sum() for chunk in aspects.values())
    prompts = data.prompts["prompt_id"].to_pylist()
    for row in rows:
        pair = places[row["image_id_a"], row["image_id_b"]]
        assert prompts[group[pair]] == row["prompt_id"]
        chunk = aspects[row["aspect"]]
        assert column(chunk, "probability")[pair] * PROBABILITY_UNIT == pytest.approx(row["probability_a"], abs=1e-4)
        assert column(chunk, "margin")[pair] * MARGIN_UNIT == pytest.approx(row["margin"], abs=0.0051)


def test_a_group_holds_its_images_orders_levels_and_rationales(data: ViewData, shapes: RunFolder) -> None:
    chunks = Chunks(data, "shapes", served=False)
    stored = shapes.stage("annotate").read_table("judgements.parquet").to_pylist()
    ids = data.images["image_id"].to_pylist()
    groups = [
        group
        for place in range(-(-data.prompts.num_rows // GROUPS_PER_CHUNK))
        for group in taken(chunks, f"groups/{place}")["groups"]
    ]
    assert [group["prompt"] for group in groups] == data.prompts["prompt"].to_pylist()
    for group, prompt_id in zip(groups, data.prompts["prompt_id"].to_pylist(), strict=True):
        names = ids[group["start"] : group["start"] + len(group["images"])]
        wanted = [row for row in stored if row["prompt_id"] == prompt_id]
        assert len(group["judgements"]) == len(wanted) == 4
        for judgement, row in zip(group["judgements"], wanted, strict=True):
            assert [names[slot] for slot in judgement["order"]] == row["order"]
            assert (judgement["annotator"], judgement["status"]) == (row["annotator"], row["status"])
            told = {
                (names[slot], aspect, *cell)
                for aspect, cells in judgement["levels"].items()
                for slot, cell in enumerate(cells)
                if cell
            }
            assert told == {(e["image_id"], e["aspect"], e["level"], e["rationale"]) for e in row["levels"]}


def test_nothing_private_reaches_the_page(data: ViewData) -> None:
    chunks = Chunks(data, "shapes", served=False)
    assert SECRET.encode() not in b"".join(chunks.script(name) for name in chunks.names())


@pytest.mark.parametrize(
    "name", ["groups/99", "groups/-1", "groups/", "groups/1/2", "prompts/x", "aspect-", "aspect-../x", "x", "groups/²"]
)
def test_chunks_that_are_not_there_are_not_made(data: ViewData, name: str) -> None:
    with pytest.raises(KeyError):
        Chunks(data, "shapes", served=False).script(name)


def test_harmful_images_are_marked_to_be_blurred(data: ViewData, shapes: RunFolder) -> None:
    ratings = shapes.stage("annotate").read_table("ratings.parquet").to_pylist()
    harmful = {row["image_id"] for row in ratings if row["aspect"] == "harmlessness" and row["mean"] < 2.5}
    ids = data.images["image_id"].to_pylist()
    assert {ids[place] for place in np.flatnonzero(data.blurred_I)} == harmful
    assert harmful


def test_a_part_of_a_run_is_drawn_by_hash_and_says_how_much_it_is(shapes: RunFolder) -> None:
    part = read_view(shapes, 5)
    assert (part.prompts.num_rows, part.total) == (5, 20)
    assert part.prompts.equals(read_view(shapes, 5).prompts)
    assert len(part.pairs.group_P) == 5 * 6
    assert len(part.judgement_J) == 5 * 4


def test_a_run_without_preferences_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the stage 'preferences' is not finished"):
        read_view(small_run(tmp_path / "run", 2))


def test_preferences_without_their_images_are_refused(tmp_path: Path) -> None:
    run = judged_run(tmp_path / "run", 2)
    for part in (run.stage("generate") / "images").names():
        table = (run.stage("generate") / "images").read_table(part)
        (run.stage("generate") / "images").write_table(part, table.slice(0, 0))
    with pytest.raises(InputError, match="no pair has its prompt and both its images"):
        read_view(run)


def test_pairs_of_two_prompts_are_left_out_and_damaged_images_of_harmful_ones_blurred(tmp_path: Path) -> None:
    settings = PreferenceSettings(self_supervised=SelfSupervisedSettings())
    run = judged_run(tmp_path / "run", 12, preferences=settings)
    data = read_view(run)
    ids, prompts = data.images["image_id"].to_pylist(), data.prompts["prompt_id"].to_pylist()
    of = dict(zip(ids, data.images["prompt_id"].to_pylist(), strict=True))
    rows = run.stage("preferences").read_table("preferences.parquet").to_pylist()
    shown = {
        (row["image_id_a"], row["image_id_b"])
        for row in rows
        if row["prompt_id"] == of.get(row["image_id_a"]) == of.get(row["image_id_b"])
    }
    every = {(row["image_id_a"], row["image_id_b"]) for row in rows}
    constructed = {
        pair for row in rows if row["source"] == SELF_SUPERVISED for pair in [(row["image_id_a"], row["image_id_b"])]
    }
    pairs = data.pairs
    found = {(ids[a], ids[b]) for a, b in zip(pairs.first_P, pairs.second_P, strict=True)}
    assert found == shown
    assert shown & constructed
    assert every - shown, "some pairs are of two prompts"
    for pair, group in enumerate(pairs.group_P):
        assert prompts[group] == of[ids[pairs.first_P[pair]]] == of[ids[pairs.second_P[pair]]]
    kinds = list(zip(*(data.images[name].to_pylist() for name in ("prompt_id", "generator", "seed")), strict=True))
    blurred = {kinds[place] for place in np.flatnonzero(data.blurred_I)}
    assert blurred
    made = [place for place, folder in enumerate(data.images["folder"].to_pylist()) if "/preferences/" in folder]
    assert any(data.blurred_I[made])
    assert all(data.blurred_I[place] == (kinds[place] in blurred) for place in made)
