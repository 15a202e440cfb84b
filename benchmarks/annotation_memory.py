"""Growth of an actor's resident memory over the last half of 4,000 requests of four 512 px images each.

One actor of the annotate stage asks all of them of a canned judge on loopback that takes 0.2 s, as fast as it can. Its
memory is read every second; the growth is the median of the last tenth of the requests over that of the tenth in the
middle. An argument changes how many requests.
"""

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import ray

from judged import pictures, small_run, stats
from runs import print_figure
from vp_ray.annotate.config import AnnotateSettings
from vp_ray.annotate.job import run
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge

REQUESTS = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
ORDERS, ANNOTATORS = 4, 2
MB = 1e6


def actors() -> list[psutil.Process]:
    """The processes of the stage's actors."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "GroupAnnotator" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def resident(samples: list[tuple[int, float]], low: float, high: float) -> float:
    """Median memory in MB while so many shares of the requests were answered."""
    inside = [memory for answered, memory in samples if low * REQUESTS <= answered <= high * REQUESTS]
    assert inside, f"no sample between {low} and {high} of the requests"
    return statistics.median(inside)


samples: list[tuple[int, float]] = []
ended = threading.Event()


def watch(url: str) -> None:
    last = 0
    while not ended.wait(1.0):
        answered = int(stats(url)["answers"].get("200", 0))
        memory = [process.memory_info().rss / MB for process in actors()]
        if memory and answered > last:
            samples.append((answered, max(memory)))
        if answered >= last + 200:
            print(f"{answered} requests: {max(memory, default=0):.0f} MB", file=sys.stderr, flush=True)
            last = answered


ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
try:
    with (
        tempfile.TemporaryDirectory() as folder,
        running_judge(JudgeSettings(canned=True, latency_seconds=0.2, latency_spread=0.5)) as url,
    ):
        shown = pictures(16, 512, step=8)
        made = small_run(Path(folder), REQUESTS // (ORDERS * ANNOTATORS), shown, prompts_per_file=50)
        annotator = {"model": "shapeworld-judge", "base_url": url, "requests_per_minute": 0, "concurrency": 16}
        stage = AnnotateSettings.load(
            {
                "annotators": [{"name": f"judge-{number}", **annotator} for number in range(ANNOTATORS)],
                "orders": ORDERS,
                "requests_per_shard": 8,
                "actors": {"min_actors": 1, "max_actors": 1, "cpus_per_actor": 1},
            }
        )
        watcher = threading.Thread(target=watch, args=(url,), daemon=True)
        watcher.start()
        started = time.monotonic()
        run(stage, made, None)
        seconds = time.monotonic() - started
        ended.set()
        watcher.join()
    middle, last = resident(samples, 0.45, 0.55), resident(samples, 0.9, 1.0)
    print_figure(
        "annotation_memory_growth_mb",
        last - middle,
        "MB an actor",
        "the middle of the same run",
        requests=REQUESTS,
        image_kb=sum(map(len, shown)) / len(shown) / 1000,
        middle_mb=middle,
        last_mb=last,
        most_mb=max(memory for _, memory in samples),
        seconds=seconds,
    )
finally:
    ray.shutdown()
