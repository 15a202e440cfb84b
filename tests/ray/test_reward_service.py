"""The service on Ray Serve: two replicas of which one is killed, several models, growth under load, its metrics."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import ray
from ray import serve

from tests.local_service import ask, ask_json, base64_of, scores_of
from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.distributed.rewards import SCORERS, ServeRewards
from vp_ray.errors import ClusterError, SettingsError, VpRayError
from vp_ray.models.http_rewards import HttpRewards
from vp_ray.models.reward import VPScore
from vp_ray.pipeline.resources import Resources
from vp_ray.pipeline.settings import JobSettings
from vp_ray.reward.config import ServiceLimits, ServiceSettings
from vp_ray.reward.running import served_over_http
from vp_ray.reward.service import application
from vp_ray.storage import RunFolder

TOKEN = "VP_RAY_TEST_TOKEN"
NAMES = ("ours", "other", "third")
SETTINGS = ServiceSettings(
    min_replicas=2,
    max_replicas=3,
    target_ongoing_requests=2,
    scale_up_seconds=0.5,
    models_per_replica=2,
    max_batch_images=8,
    limits=ServiceLimits(images=16),
)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def models(tiny_blip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, VPScore]]:
    """Checkpoints that differ in their heads, and the models that they hold."""
    found = {}
    for seed, name in enumerate(NAMES):
        place = str(tmp_path_factory.mktemp(name))
        model = VPScore.from_backbone(str(tiny_blip), seed=seed).eval()
        model.save_pretrained(place)
        found[name] = (place, model)
    return found


@pytest.fixture(scope="module")
def url(models: dict[str, tuple[str, VPScore]]) -> Iterator[str]:
    checkpoints = {name: place for name, (place, _) in models.items()}
    with connect(RaySettings()), served_over_http(checkpoints, SETTINGS, port=free_port()) as address:
        yield address


def app_name() -> str:
    (name,) = serve.status().applications
    return name


def replicas(deployment: str = SCORERS) -> list[dict[str, str]]:
    actors: list[dict[str, str]] = ray.util.list_named_actors(all_namespaces=True)
    return [actor for actor in actors if f"#{deployment}#" in actor["name"]]


def kill(replica: dict[str, str]) -> None:
    ray.kill(ray.get_actor(replica["name"], namespace=replica["namespace"]), no_restart=True)


def all_columns(model: VPScore, images: np.ndarray, prompts: list[str]) -> np.ndarray:
    scores = model.score(images, prompts)
    return np.column_stack([scores, model.overall(scores)])


def test_a_replica_that_is_killed_under_load_fails_no_client(url: str, models: dict[str, tuple[str, VPScore]]) -> None:
    """12 clients over HTTP and 4 over handles; every answer is what the class scores in process."""
    model = models["ours"][1]
    images, prompts = pictures(48), [f"{number % 5} red circles" for number in range(48)]
    wanted = all_columns(model, images, prompts)
    encoded = [base64_of(image) for image in images]
    rewards = ServeRewards(app_name(), model.aspects, attempts=6)
    answered, killed = threading.Semaphore(0), threading.Event()

    def over_http(client: int) -> None:
        for first in range(0, 48, 4):
            rows = slice((first + 4 * client) % 48, (first + 4 * client) % 48 + 4)
            code, reply = ask_json(url, images=encoded[rows], prompts=prompts[rows])
            assert code == 200, reply
            np.testing.assert_allclose(scores_of(reply, reply["aspects"]), wanted[rows], atol=1e-5)
            answered.release()

    def over_handle(client: int) -> None:
        for _ in range(12):
            scores = rewards.request(images[client : client + 8], prompts[client : client + 8]).result(120)
            np.testing.assert_allclose(scores, wanted[client : client + 8, :4], atol=1e-5)
            answered.release()

    def killer() -> None:
        for _ in range(40):
            answered.acquire()
        kill(replicas()[0])
        killed.set()

    with ThreadPoolExecutor(17) as pool:
        work = [pool.submit(over_http, number) for number in range(12)]
        work += [pool.submit(over_handle, number) for number in range(4)]
        work.append(pool.submit(killer))
        for future in work:
            future.result(180)
    assert killed.is_set()


def test_a_gateway_that_is_killed_fails_no_client_that_asks_again(
    url: str, models: dict[str, tuple[str, VPScore]]
) -> None:
    model, images, prompts = models["ours"][1], pictures(8, 3), ["a red circle"] * 8
    rewards = HttpRewards(url, attempts=8)
    pending = [rewards.request(images, prompts) for _ in range(12)]
    (gateway,) = replicas("RewardGateway")
    kill(gateway)
    pending += [rewards.request(images, prompts) for _ in range(4)]
    for answer in pending:
        np.testing.assert_allclose(answer.result(120), model.score(images, prompts), atol=1e-5)


def test_models_are_told_apart_and_a_replica_keeps_two_at_most(
    url: str, models: dict[str, tuple[str, VPScore]]
) -> None:
    images, prompts = pictures(2, 7), ["a red circle"] * 2
    encoded = [base64_of(image) for image in images]
    for name in (*NAMES, *NAMES):
        code, reply = ask_json(url, images=encoded, prompts=prompts, model=name)
        assert (code, reply["model"]) == (200, name)
        np.testing.assert_allclose(
            scores_of(reply, reply["aspects"]), all_columns(models[name][1], images, prompts), atol=1e-5
        )
        over_handle = ServeRewards(app_name(), models[name][1].aspects, model=name).request(images, prompts)
        np.testing.assert_allclose(over_handle.result(60), models[name][1].score(images, prompts), atol=1e-5)
    code, reply = ask_json(url, images=encoded, prompts=prompts, model="nobody")
    assert (code, reply["error"]["type"]) == (404, "unknown_model")
    with pytest.raises(VpRayError, match="no model 'nobody'"):
        ServeRewards(app_name(), ("a",), model="nobody").request(images, prompts).result(60)
    assert [model["id"] for model in ask(f"{url}/v1/models")[1]["models"]] == list(NAMES)


def test_the_service_grows_under_load(url: str) -> None:
    stop = threading.Event()
    encoded = [base64_of(image) for image in pictures(1)]

    def load() -> None:
        while not stop.is_set():
            ask_json(url, images=encoded, prompts=["a red circle"])

    def running() -> int:
        return serve.status().applications[app_name()].deployments[SCORERS].replica_states.get("RUNNING", 0)

    with ThreadPoolExecutor(10) as pool:
        work = [pool.submit(load) for _ in range(10)]
        end = time.monotonic() + 90
        try:
            while running() < 3 and time.monotonic() < end:
                time.sleep(0.2)
            assert running() == 3
        finally:
            stop.set()
        for future in work:
            future.result(60)


def test_prometheus_reads_requests_images_passes_and_failures(url: str) -> None:
    ask_json(url, images=["AAAA", base64_of(pictures(1)[0])], prompts=["a"])
    wanted = ("requests", "images", "latency_seconds", "batch_images", "batch_prompts", "batch_seconds")
    port, end, text = ray.nodes()[0]["MetricsExportPort"], time.monotonic() + 60, ""
    while not all(f"ray_vp_reward_{name}" in text for name in (*wanted, "failures")) or 'type="unread' not in text:
        assert time.monotonic() < end, [name for name in wanted if f"ray_vp_reward_{name}" not in text]
        time.sleep(0.5)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
            text = reply.read().decode()
    failures = [line for line in text.splitlines() if line.startswith("ray_vp_reward_failures")]
    assert any('type="unreadable_image"' in line and 'path="http"' in line for line in failures)


def test_a_port_in_use_and_a_host_beyond_this_machine_without_a_token_are_refused(
    url: str, models: dict[str, tuple[str, VPScore]], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = {"ours": models["ours"][0]}
    taken = served_over_http(checkpoints, SETTINGS, port=int(url.rpartition(":")[2]))
    with pytest.raises(ClusterError, match="cannot be listened on"), taken:
        pass
    for host in ("0.0.0.0", "::", "10.0.0.1", "scores.example"):  # noqa: S104 - it must be refused
        with pytest.raises(SettingsError, match="needs a token"), served_over_http(checkpoints, SETTINGS, host=host):
            pass
    monkeypatch.delenv(TOKEN, raising=False)
    unset = served_over_http(checkpoints, ServiceSettings(token_env=TOKEN))
    with pytest.raises(SettingsError, match=f"{TOKEN} is not set"), unset:
        pass


def test_a_configuration_file_names_models_and_settings() -> None:
    application({"checkpoint": "/a", "models": {"other": "/b"}, "max_replicas": 3})
    with pytest.raises(SettingsError, match="no model to serve"):
        application({"max_replicas": 3})
    with pytest.raises(SettingsError, match="max_replica"):
        application({"checkpoint": "/a", "max_replica": 3})


def test_the_next_run_deletes_what_a_driver_that_is_gone_served_and_not_what_others_serve(
    url: str, tmp_path: Path
) -> None:
    @serve.deployment(ray_actor_options={"num_cpus": 0})
    class Left:
        def __call__(self) -> str:
            return "still here"

    ours, gone, another = app_name(), "vp-score-7f000000-00000000", "of-somebody-else"
    for name in (gone, another):
        serve.run(Left.bind(), name=name, route_prefix=None)
    job = JobSettings.load({"run": str(tmp_path), "prompts": {"sources": [{"kind": "text", "path": "x"}]}})
    with Resources(job, RunFolder.at(tmp_path)) as resources:
        resources.ray()
    end = time.monotonic() + 60
    while gone in serve.status().applications:
        assert time.monotonic() < end, "the application is still there"
        time.sleep(0.2)
    assert set(serve.status().applications) == {ours, another}
    serve.delete(another)
