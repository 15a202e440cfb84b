"""The plan of a generation in its file: the rows and shards that planning makes, whatever their number."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from vp_ray.generate import plan_file
from vp_ray.generate.config import GenerateSettings
from vp_ray.generate.plan_file import PlannedShardMaker, ShardPlace, shard_places, write_plan
from vp_ray.generate.planning import plan_generation
from vp_ray.ids import content_id
from vp_ray.models import image_shards
from vp_ray.storage import Folder

PROMPTS = [{"prompt_id": content_id(n), "prompt": f"a picture of {n} things"} for n in range(29)]
SETTINGS = GenerateSettings.load(
    {
        "generators": [
            {
                "name": "one",
                "source": "embedded:weak",
                "images_per_prompt": 3,
                "batch_size": 2,
                "guidance_scale": [3, 12],
            },
            {"name": "two", "source": "embedded:weak", "batch_size": 5, "schedulers": ["ddim", "euler"]},
        ],
        "batches_per_shard": 2,
    }
)


class RecordingMaker:
    """Stands where pictures would be drawn, and gives back the shard that it was given."""

    def __init__(self, generator: Any, folder: str) -> None:
        pass

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        return shard


@pytest.mark.parametrize("sizes", [(1 << 13, 1 << 15), (7, 5), (64, 10)])
def test_a_worker_reads_the_rows_that_planning_makes_exactly(
    tmp_path: Path, sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_file, "_ROW_GROUP", sizes[0])
    monkeypatch.setattr(plan_file, "_ROWS_A_PART", sizes[1])
    monkeypatch.setattr(image_shards, "ImageShardMaker", RecordingMaker)
    folder = Folder.at(tmp_path)
    write_plan(folder, pa.Table.from_pylist(PROMPTS), SETTINGS)
    places = shard_places(folder)
    plans = plan_generation(PROMPTS, SETTINGS)
    assert list(places) == ["one", "two"]
    worker = PlannedShardMaker({}, "", folder.uri)
    for plan in plans:
        made = [worker(place.told()) for place in places[plan.pool.name]]
        # Guidance and seeds to the last bit: a picture depends on them.
        assert made == plan.shards


def test_the_shards_of_a_plan_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    write_plan(folder, pa.Table.from_pylist(PROMPTS), SETTINGS)
    shards = [shard for shards in shard_places(folder).values() for shard in shards]
    assert shards[0] == ShardPlace(shards[0].file, 0, 4)
    for before, after in pairwise(shards):
        assert after.first == before.first + before.rows
    assert shards[-1].first + shards[-1].rows == 29 * 3 + 29 * 2
