"""The generate stage on a cluster that loses an actor and a node, and on an object store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import ray
from ray.cluster_utils import Cluster

from tests.unit.generate.test_generate_stage import WORDS, maker, settings
from vp_ray.distributed.shards import run_shards
from vp_ray.errors import StorageError
from vp_ray.generate import job
from vp_ray.generate.config import GenerateSettings
from vp_ray.generate.planning import plan_generation
from vp_ray.ids import content_id
from vp_ray.models.image_shards import ImageShardMaker
from vp_ray.records import PROMPTS
from vp_ray.storage import Folder, Manifest, RunFolder

SPOT = {"ray.io/market-type": "spot"}


@pytest.fixture(scope="module")
def cluster(bucket: str) -> Iterator[Cluster]:
    """A head without work on it and two nodes that are labelled as spot machines and know the object store."""
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
    for _ in range(2):
        nodes.add_node(num_cpus=4, labels=SPOT)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def planned(source: Path, **options: Any) -> tuple[GenerateSettings, list[dict[str, Any]]]:
    pool = {"min_actors": 2, "max_actors": 2, "labels": SPOT}
    chosen = settings(source, pool=pool, images_per_prompt=6, **options)
    (plan,) = plan_generation([{"prompt": text, "prompt_id": content_id(text)} for text in WORDS], chosen)
    return chosen, plan.shards


def actors_of(node: Any) -> list[psutil.Process]:
    """The processes on a node that draw."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    # Ray gives a process the name of its actor; one that has just died may still be in the list, with no name.
    return [one for one in raylet.children(recursive=True) if one.is_running() and "MapWorker" in one.name()]


@pytest.mark.timeout(300)
def test_every_image_is_there_once_and_bit_by_bit_after_an_actor_and_a_node_were_lost(
    cluster: Cluster, model_at: Callable[[str], Path], tmp_path: Path
) -> None:
    chosen, shards = planned(model_at("sd"))
    plain = maker(chosen, tmp_path / "undisturbed")
    for shard in shards:
        plain(shard)
    first, second = cluster.worker_nodes
    results: list[dict[str, Any]] = []
    lost: list[str] = []

    def disturb(result: dict[str, Any]) -> None:
        results.append(result)
        drawing = {node: actors_of(node) for node in (first, second) if node in cluster.worker_nodes}
        assert not actors_of(cluster.head_node), "the head has not the label that the pool asks for"
        if len(results) == 3:
            next(actor for actors in drawing.values() for actor in actors).kill()
            lost.append("actor")
        elif len(results) == 6:
            node = next(node for node, actors in drawing.items() if actors)
            cluster.remove_node(node, allow_graceful=False)
            lost.append("node")
            cluster.add_node(num_cpus=4, labels=SPOT)

    arguments = {
        "generator": chosen.generators[0].model_settings().model_dump(mode="json"),
        "folder": str(tmp_path / "lossy"),
    }
    run_shards(shards, ImageShardMaker, arguments, chosen.generators[0].pool, "generate", disturb, 2)
    assert lost == ["actor", "node"]
    assert Counter(result["file"] for result in results) == Counter(shard["file"] for shard in shards)
    for shard in shards:
        assert (tmp_path / "lossy" / shard["file"]).read_bytes() == (
            tmp_path / "undisturbed" / shard["file"]
        ).read_bytes()
    # What a killed actor was writing may lie there under a temporary name, which nobody reads.
    assert Folder.at(tmp_path / "lossy").names() == sorted(shard["file"] for shard in shards)


def test_storage_that_fails_ends_the_stage_with_its_reason_and_a_second_run_draws_the_rest(
    cluster: Cluster, model_at: Callable[[str], Path], tmp_path: Path
) -> None:
    run = RunFolder.at(tmp_path / "run")
    _write_prompts(run)
    chosen, shards = planned(model_at("sd"))
    images = tmp_path / "run" / "generate" / "images"
    # A folder in the place of one shard's temporary target is an error that rights do not hide from root.
    (images / shards[5]["file"]).mkdir(parents=True)
    (images / shards[5]["file"] / "in the way").touch()
    with pytest.raises(StorageError, match="storage failed"):
        job.run(chosen, run)
    before = {path.name: path.stat().st_mtime_ns for path in images.iterdir() if path.is_file()}
    (images / shards[5]["file"] / "in the way").unlink()
    (images / shards[5]["file"]).rmdir()
    outcome = job.run(chosen, run)
    assert outcome.rows == {"made": 36}
    after = {path.name: path.stat().st_mtime_ns for path in images.iterdir()}
    assert set(after) == {shard["file"] for shard in shards}
    assert before
    assert {name: after[name] for name in before} == before


def test_a_run_on_an_object_store_is_drawn_once_and_goes_on_there(
    cluster: Cluster, bucket: str, model_at: Callable[[str], Path]
) -> None:
    run = RunFolder.at(f"{bucket}/runs/one")
    _write_prompts(run)
    chosen, shards = planned(model_at("sd"))
    lost = shards[3]["file"]
    assert job.run(chosen, run).rows == {"made": 36}
    images = run.stage("generate") / "images"
    assert images.names() == sorted(shard["file"] for shard in shards)
    before = {name: images.read_bytes(name) for name in images.names()}
    images.delete(lost)
    outcome = job.run(chosen, run)
    assert outcome.rows == {"made": 36}
    assert {name: images.read_bytes(name) for name in images.names()} == before
    assert run.stage("generate").read_table("plan.parquet").num_rows == 36


def _write_prompts(run: RunFolder) -> None:
    row = {"prompt_raw": "", "source": "test", "category": "", "split": "train", "flags": []}
    rows = [{**row, "prompt": text, "prompt_id": content_id(text)} for text in WORDS]
    run.stage("prompts").make().write_table("prompts.parquet", pa.Table.from_pylist(rows, schema=PROMPTS))
    run.stage("prompts").finish(Manifest("prompts", {}, {}, {}, 0.0))
