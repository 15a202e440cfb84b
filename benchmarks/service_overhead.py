"""Images a second through Ray Serve for 16 clients over the in-process scorer at the same batch, and added latency.

A client sends one image of 224 px at a time and waits for its scores. Rounds of the class in process, of handles and of
HTTP alternate. The handle clients are 16 threads of this process; the HTTP clients, 16 threads of a process of their
own, send PNG files that were encoded before. The class in process runs in a Ray worker too: Ray gives its workers a low
priority, which on a busy machine would otherwise be measured instead of the service. Rates are slopes of the steady
state, after two seconds. One replica with one thread, one gateway and Serve's proxy share the cores
with the clients, so that what they take of a core counts as overhead. Latency is added over the time that the class
needs for the batches that a client must wait for: with 16 clients and batches of 8, two.
"""

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import ray
import torch
from PIL import Image

from reward_models import PROMPTS, scorer
from runs import print_figure
from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.distributed.rewards import ServeRewards
from vp_ray.models.reward import VPScore
from vp_ray.reward.config import ServiceSettings
from vp_ray.reward.memory import keep_freed_memory
from vp_ray.reward.running import served_over_http

ROUNDS, CLIENTS, BATCH, SECONDS, PORT = 5, 16, 8, 6.0, 18471
WARM_SECONDS = 2.0


def clients(send: Callable[[int], None], seconds: float) -> tuple[float, list[float]]:
    """Images a second of all clients, one image a request, and the seconds of each request, after the warm-up."""
    stop, requests, lock = threading.Event(), [], threading.Lock()

    def client(number: int) -> None:
        mine = []
        while not stop.is_set():
            began = time.monotonic()
            send(number)
            mine.append((time.monotonic(), time.monotonic() - began))
        with lock:
            requests.extend(mine)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(WARM_SECONDS + seconds)
    stop.set()
    for thread in threads:
        thread.join()
    steady = sorted(one for one in requests if WARM_SECONDS <= one[0] - began <= WARM_SECONDS + seconds)
    slope = np.polyfit([end for end, _ in steady], np.arange(len(steady)), 1)[0]
    return float(slope), [wait for _, wait in steady]


class InProcess:
    """The class alone, in a process of its own, which keeps freed memory as a replica does."""

    def __init__(self, folder: str, images: "np.ndarray", prompts: list[str]) -> None:
        keep_freed_memory()
        torch.set_num_threads(1)
        self._model, self._images, self._prompts = VPScore.from_pretrained(folder), images, prompts

    def measure(self) -> tuple[float, float]:
        """Images a second and seconds of a batch."""
        count, began = 0, time.monotonic()
        while time.monotonic() - began < SECONDS:
            rows = slice(count % CLIENTS, count % CLIENTS + BATCH)
            self._model.score(self._images[rows], self._prompts[rows])
            count += BATCH
        seconds = time.monotonic() - began
        return count / seconds, seconds * BATCH / count


def http_clients(folder: str) -> None:
    """The process of the HTTP clients: a round for each line that it reads, a line of JSON for each round."""
    files = [path.read_bytes() for path in sorted(Path(folder).glob("*.png"))]
    connections = [http.client.HTTPConnection("127.0.0.1", PORT, timeout=120) for _ in range(CLIENTS)]
    head = 'Content-Disposition: form-data; name="{}"\r\n\r\n'

    def body(number: int) -> bytes:
        image = f"--b\r\n{head.format('images')}".encode() + files[number]
        return image + f"\r\n--b\r\n{head.format('prompts')}{PROMPTS[number % len(PROMPTS)]}\r\n--b--\r\n".encode()

    bodies = [body(number) for number in range(CLIENTS)]

    def send(number: int) -> None:
        connection = connections[number]
        connection.request("POST", "/v1/score", bodies[number], {"Content-Type": "multipart/form-data; boundary=b"})
        reply = connection.getresponse()
        answer = reply.read()
        assert reply.status == 200, answer
        assert b"overall" in answer

    for line in sys.stdin:
        print(json.dumps(clients(send, float(line))), flush=True)


def measure() -> None:
    """Prints the figures."""
    torch.set_num_threads(1)
    images = np.random.default_rng(0).integers(0, 256, (CLIENTS, 224, 224, 3), dtype=np.uint8)
    prompts = [PROMPTS[number % len(PROMPTS)] for number in range(CLIENTS)]
    with tempfile.TemporaryDirectory() as folder:
        scorer(vision_layers=12, text_layers=6).save_pretrained(folder)
        for number, image in enumerate(images):
            Image.fromarray(image).save(f"{folder}/{number:02d}.png")
        settings = ServiceSettings(max_batch_images=BATCH)
        with connect(RaySettings()), served_over_http({"vp-score": folder}, settings, port=PORT):
            (app,) = ray.serve.status().applications
            rewards = ServeRewards(app)
            bare = ray.remote(num_cpus=0)(InProcess).remote(folder, images, prompts)

            def in_process() -> tuple[float, float]:
                found: tuple[float, float] = ray.get(bare.measure.remote())
                return found

            def by_handle(number: int) -> None:
                rewards.request(images[number : number + 1], prompts[number : number + 1]).result()

            command = [sys.executable, __file__, folder]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
                report(in_process, lambda seconds: clients(by_handle, seconds), lambda s: asked(process, s))
                assert process.stdin is not None
                process.stdin.close()


def asked(process: "subprocess.Popen[str]", seconds: float) -> tuple[float, list[float]]:
    """One round of the HTTP clients."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{seconds}\n")
    process.stdin.flush()
    rate, waits = json.loads(process.stdout.readline())
    return rate, waits


def report(
    in_process: Callable[[], tuple[float, float]],
    by_handle: Callable[[float], tuple[float, list[float]]],
    by_http: Callable[[float], tuple[float, list[float]]],
) -> None:
    """Alternates the three and prints what they give."""
    in_process(), by_handle(2.0), by_http(2.0)
    bare, ways = [], {"handle": by_handle, "http": by_http}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    added: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        rate, batch_seconds = in_process()
        bare.append((rate, batch_seconds))
        for name, way in ways.items():
            through, waits = way(SECONDS)
            rates[name].append(through / rate)
            added[name] += [1000 * (wait - batch_seconds * CLIENTS / BATCH) for wait in waits]
    layout = {
        "clients": CLIENTS,
        "batch": BATCH,
        "images_per_second_in_process": statistics.median(rate for rate, _ in bare),
        "seconds_of_a_batch": statistics.median(seconds for _, seconds in bare),
        "cores": os.cpu_count(),
        "rounds": ROUNDS,
    }
    for name, found in rates.items():
        print_figure(
            f"service_overhead_{name}", statistics.median(found), "ratio", "the class in process, same batch", **layout
        )
    for share in (50, 99):
        print_figure(
            f"service_added_p{share}_ms",
            float(np.percentile(added["http"], share)),
            "ms",
            "two batches of the class in process; over HTTP",
            handle=float(np.percentile(added["handle"], share)),
        )


if __name__ == "__main__":
    http_clients(sys.argv[1]) if len(sys.argv) > 1 else measure()
