"""Speed-up over linear of the generate stage's pools, with actors that sleep for the time of a batch.

The device is simulated, so what is measured is the pool: scheduling, results, and the driver. Throughput is counted
while every actor works: from the moment each of them has given a result until shards begin to run out.
"""

import os
import statistics
import time
from typing import Any

import ray
from ray.cluster_utils import Cluster

from runs import print_figure
from vp_ray.distributed.config import PoolSettings
from vp_ray.distributed.shards import run_shards

SHARD_SECONDS = 2.0
ROWS = 16
NODES = 4


class Sleeper:
    """Takes the time of a shard and imports nothing heavy."""

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        time.sleep(SHARD_SECONDS)
        return {"number": shard["number"], "actor": os.getpid()}


def images_per_second(actors: int, shards_of_an_actor: int) -> float:
    shards = [{"number": number} for number in range(actors * shards_of_an_actor)]
    pool = PoolSettings(min_actors=actors, max_actors=actors)
    results: list[tuple[float, int]] = []
    run_shards(shards, Sleeper, {}, pool, "scaling", lambda result: results.append((time.monotonic(), result["actor"])))
    seen: set[int] = set()
    first = next(place for place, (_, actor) in enumerate(results) if seen.add(actor) or len(seen) == actors)
    # The last shards of all find some actors idle: the window ends before them.
    last = len(results) - 2 * actors
    assert last - first >= 4 * actors, "too few shards lie between the start and the end"
    return (last - first) * ROWS / (results[last][0] - results[first][0])


cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
for _ in range(NODES):
    cluster.add_node(num_cpus=9)
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
try:
    rates = {1: [images_per_second(1, 12)], 2: [], 4: []}
    for _ in range(3):
        rates[1].append(images_per_second(1, 12))
        for actors in (2, 4):
            rates[actors].append(images_per_second(actors, 12))
    rates[32] = [images_per_second(32, 24)]
    alone = statistics.median(rates[1])
    for actors in (2, 4, 32):
        print_figure(
            f"generation_scaling_{actors}",
            statistics.median(rates[actors]) / (actors * alone),
            "ratio",
            f"{actors} times one actor, simulated device time",
            nodes=NODES,
        )
    print_figure("generation_scaling_1", alone * SHARD_SECONDS / ROWS, "ratio", "the simulated device itself")
finally:
    ray.shutdown()
    cluster.shutdown()
