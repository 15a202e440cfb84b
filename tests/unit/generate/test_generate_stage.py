"""Shards of images without a cluster: the same bytes in any order, bad rows with their statuses, clear errors."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
import torch
from diffusers import DiffusionPipeline

from vp_ray.errors import CheckpointError, InputError, StorageError
from vp_ray.generate import job
from vp_ray.generate.config import GenerateSettings
from vp_ray.generate.planning import plan_generation
from vp_ray.ids import content_id
from vp_ray.models.image_shards import ImageShardMaker
from vp_ray.pictures import decode_image
from vp_ray.records import IMAGES, PROMPTS
from vp_ray.storage import Folder, Manifest, RunFolder

WORDS = ["a red circle", "a blue star", "two green squares", "a cyan circle", "a large red star", "three stars"]


def prompts() -> list[dict[str, Any]]:
    return [{"prompt": text, "prompt_id": content_id(text)} for text in WORDS]


def settings(source: Path | str, **options: Any) -> GenerateSettings:
    generator = {"name": "tiny", "source": str(source), "steps": 2, "batch_size": 2, "guidance_scale": [1, 8]} | options
    return GenerateSettings.load({"generators": [generator], "batches_per_shard": 1})


def shards_of(chosen: GenerateSettings) -> list[dict[str, Any]]:
    (plan,) = plan_generation(prompts(), chosen)
    return plan.shards


def maker(chosen: GenerateSettings, folder: Path) -> ImageShardMaker:
    return ImageShardMaker(chosen.generators[0].model_settings().model_dump(mode="json"), str(folder))


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return Folder.at(folder).read_table(".").to_pylist()


def test_any_order_any_maker_and_two_threads_make_the_same_bytes(
    model_at: Callable[[str], Path], tmp_path: Path
) -> None:
    chosen = settings(model_at("sd"), schedulers=["euler_ancestral", "own"])
    shards = shards_of(chosen)
    assert len(shards) == 6
    one = maker(chosen, tmp_path / "one")
    results = [one(shard) for shard in shards]
    backwards = [maker(chosen, tmp_path / "two") for _ in range(2)]
    for number, shard in enumerate(reversed(shards)):
        backwards[number % 2](shard)
    third = maker(chosen, tmp_path / "three")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(third, shards))
    images = rows_in(tmp_path / "one")
    assert len({row["image_id"] for row in images}) == 12
    for other in ("two", "three"):
        for shard in shards:
            first, second = (tmp_path / name / shard["file"] for name in ("one", other))
            assert first.read_bytes() == second.read_bytes()
    assert sum(result["rows"] for result in results) == 12
    assert sum(result["bytes"] for result in results) == sum(len(row["image"]["bytes"]) for row in images)
    assert {row["image"]["path"] for row in images} == {f"{row['image_id']}.png" for row in images}
    assert {decode_image(row["image"]["bytes"]).shape for row in images} == {(16, 16, 3)}


def test_an_image_that_cannot_be_made_keeps_its_row_without_pixels(
    model_at: Callable[[str], Path], tmp_path: Path
) -> None:
    pipe = DiffusionPipeline.from_pretrained(model_at("sd"))
    with torch.no_grad():
        word = pipe.tokenizer.convert_tokens_to_ids("cyan</w>")
        pipe.text_encoder.embeddings.token_embedding.weight[word] = torch.nan
    pipe.save_pretrained(tmp_path / "spoilt")
    chosen = settings(tmp_path / "spoilt")
    one = maker(chosen, tmp_path / "images")
    results = [one(shard) for shard in shards_of(chosen)]
    rows = {row["prompt"]: row for row in rows_in(tmp_path / "images")}
    assert sum(result["not_made"] for result in results) == 1
    failed = rows.pop("a cyan circle")
    assert (failed["status"], failed["image"]["bytes"], failed["width"]) == ("failed", None, 16)
    assert all(row["status"] == "made" and row["image"]["bytes"] for row in rows.values())


def test_a_long_prompt_is_flagged_in_its_row(model_at: Callable[[str], Path], tmp_path: Path) -> None:
    chosen = settings(model_at("sd"))
    (plan,) = plan_generation([{"prompt": "a red circle " * 9, "prompt_id": "p"}, *prompts()[:1]], chosen)
    maker(chosen, tmp_path / "images")(plan.shards[0])
    assert [row["flags"] for row in rows_in(tmp_path / "images")] == [["prompt_truncated"], []]


def test_storage_that_cannot_be_written_stops_with_the_reason_and_leaves_nothing_half_done(
    model_at: Callable[[str], Path], tmp_path: Path
) -> None:
    chosen = settings(model_at("sd"))
    (tmp_path / "images").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="storage failed"):
        maker(chosen, tmp_path / "images")(shards_of(chosen)[0])
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def run_with_prompts(path: Path, split: str = "train") -> RunFolder:
    run = RunFolder.at(path)
    row = {"prompt_raw": "", "source": "test", "category": "", "split": split, "flags": []}
    run.stage("prompts").write_table(
        "prompts.parquet", pa.Table.from_pylist([{**row, **prompt} for prompt in prompts()], schema=PROMPTS)
    )
    run.stage("prompts").finish(Manifest("prompts", {}, {}, {}, 0.0))
    return run


@pytest.mark.parametrize("source", ["nobody/no-such-model", "/no/such/directory"])
def test_a_model_that_is_not_there_is_told_before_any_cluster_is_needed(tmp_path: Path, source: str) -> None:
    assert not ray.is_initialized()
    with pytest.raises(CheckpointError, match="the model 'tiny' is"):
        job.run(settings(source), run_with_prompts(tmp_path))
    assert not ray.is_initialized()
    assert not (tmp_path / "generate").exists()


def test_prompts_of_other_splits_only_are_told(model_at: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no prompt is in the splits train"):
        job.run(settings(model_at("sd")), run_with_prompts(tmp_path, "held_out"))


def test_the_images_table_is_what_the_schema_says(model_at: Callable[[str], Path], tmp_path: Path) -> None:
    chosen = settings(model_at("sd"))
    maker(chosen, tmp_path / "images")(shards_of(chosen)[0])
    assert Folder.at(tmp_path / "images").read_table(".").schema.remove_metadata().equals(IMAGES)
