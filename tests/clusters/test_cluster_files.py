"""Every file of `clusters/` by the rules of what reads it, and its versions by what is installed."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve.schema import ServeDeploySchema

import vp_ray
from tests.clusters.schema import ClusterSpec, Monitor, cluster_of
from vp_ray.pipeline.settings import load_job
from vp_ray.redaction import holds_secret
from vp_ray.reward.service import application

ROOT = Path(__file__).parents[2]
CLUSTERS = ROOT / "clusters"
LAUNCHED = ("aws", "gcp")
MANIFESTS = ("raycluster", "rayjob", "rayservice")
POOLS = {"generate", "annotate", "train"}


def launched(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CLUSTERS / f"{name}.yaml").read_text())
    return found


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CLUSTERS / "kuberay" / f"{name}.yaml").read_text())
    return found


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_launcher_takes_its_file(name: str) -> None:
    prepared = prepare_config(launched(name))
    validate_config(prepared)
    wrong = prepare_config(launched(name))
    wrong["available_node_types"]["train"]["idle_timeout"] = 3
    with pytest.raises(Exception, match="idle_timeout"):
        validate_config(wrong)


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_head_has_no_work_and_spot_nodes_come_before_on_demand_ones(name: str) -> None:
    config = launched(name)
    types = config["available_node_types"]
    assert types[config["head_node_type"]]["resources"] == {"CPU": 0}
    labels = {node: values["labels"] for node, values in types.items()}
    assert {values["vp-ray/pool"] for values in labels.values()} == POOLS | {"head"}
    assert labels["generate_spot"]["ray.io/market-type"] == "spot"
    assert {values["ray.io/market-type"] for node, values in labels.items() if node != "generate_spot"} == {"on-demand"}
    assert types["generate_spot"]["priority"] > types["generate_on_demand"]["priority"]
    assert all(values["idle_timeout_s"] > 0 for node, values in types.items() if node != "head")
    assert "," not in config["provider"]["availability_zone"], "training workers must lie in one zone"


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_launched_cluster_is_closed_and_asks_for_a_token(name: str) -> None:
    config = launched(name)
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in line for line in starts if "ray start" in line or "spot-agent" in line)
    assert any("--dashboard-host=127.0.0.1" in line for line in config["head_start_ray_commands"])
    assert "0.0.0.0" not in (CLUSTERS / f"{name}.yaml").read_text()  # noqa: S104
    assert "/home/ray/.ray/auth_token" in config["file_mounts"]
    assert any("vp-ray spot-agent" in line for line in config["worker_start_ray_commands"])
    for node in config["available_node_types"].values():
        closed = node["node_config"].get("SecurityGroupIds") or node["node_config"]["tags"]["items"]
        assert closed, "a node without a network of its own is reached by SSH from everywhere"


@pytest.mark.parametrize("name", MANIFESTS)
def test_kuberay_takes_its_manifests(name: str) -> None:
    cluster = cluster_of(manifest(name))
    assert cluster.authOptions.mode == "token"
    assert cluster.autoscalerOptions.version == "v2"
    assert cluster.headGroupSpec.rayStartParams["num-cpus"] == "0"
    assert cluster.headGroupSpec.serviceType == "ClusterIP"
    for pod in pods(cluster):
        names = {volume.name for volume in pod.volumes}
        for container in pod.containers:
            assert {mount.name for mount in container.volumeMounts} == names
            assert container.resources.requests == container.resources.limits
            assert not any(variable.value and "KEY" in variable.name for variable in container.env)
    pools = {
        dict(part.split("=") for part in group.rayStartParams["labels"].split(","))["vp-ray/pool"]
        for group in cluster.workerGroupSpecs
    }
    assert pools <= POOLS
    for group in cluster.workerGroupSpecs:
        (container,) = group.template.spec.containers
        spot = "market-type=spot" in group.rayStartParams["labels"]
        assert (container.lifecycle is not None) == spot, group.groupName
        if container.lifecycle is not None:
            command = " ".join(container.lifecycle.preStop.exec.command)
            assert "vp-ray spot-agent --within" in command
            assert (group.template.spec.terminationGracePeriodSeconds or 0) >= 60
        zone = "topology.kubernetes.io/zone" in group.template.spec.nodeSelector
        assert zone == (group.groupName == "train"), "training workers must lie in one zone"


def test_the_operator_of_prometheus_takes_the_monitor_and_refuses_a_field_it_does_not_know() -> None:
    values = manifest("podmonitor")
    found = Monitor.model_validate(values)
    assert {endpoint.port for endpoint in found.spec.podMetricsEndpoints} == {"metrics", "as-metrics", "dash-metrics"}
    values["spec"]["podMetricsEndpoint"] = []
    with pytest.raises(ValidationError, match="podMetricsEndpoint"):
        Monitor.model_validate(values)


@pytest.mark.parametrize("path", sorted(CLUSTERS.rglob("*.y*ml")), ids=lambda path: path.name)
def test_no_file_holds_a_key_or_hands_one_to_the_dashboard(path: Path) -> None:
    text = path.read_text()
    assert not holds_secret(text)
    assert "env_vars" not in text


def test_a_field_that_kuberay_does_not_know_is_refused() -> None:
    wrong = manifest("rayjob")
    wrong["spec"]["shutdownAfterJobFinish"] = True
    with pytest.raises(ValidationError, match="shutdownAfterJobFinish"):
        cluster_of(wrong)
    wrong = manifest("raycluster")
    wrong["spec"]["workerGroupSpecs"][0]["minReplica"] = 1
    with pytest.raises(ValidationError, match="minReplica"):
        cluster_of(wrong)


def pods(cluster: ClusterSpec) -> list[Any]:
    return [group.template.spec for group in (cluster.headGroupSpec, *cluster.workerGroupSpecs)]


def test_the_service_of_the_manifest_is_one_that_serve_and_this_package_take() -> None:
    config = ServeDeploySchema.model_validate(yaml.safe_load(manifest("rayservice")["spec"]["serveConfigV2"]))
    (found,) = config.applications
    assert found.import_path == "vp_ray.reward.service:application"
    assert application(found.args) is not None


def test_the_job_of_the_manifest_is_one_of_ours() -> None:
    entrypoint = manifest("rayjob")["spec"]["entrypoint"]
    assert entrypoint.startswith("vp-ray run /opt/vp_ray/jobs/")
    load_job(ROOT / "jobs" / Path(entrypoint).name)


def test_versions_are_the_installed_ones() -> None:
    tag = f"{vp_ray.__version__}-ray{version('ray')}"
    for path in (*CLUSTERS.glob("*.yaml"), *CLUSTERS.glob("kuberay/ray*.yaml"), CLUSTERS / "README.md"):
        found = set(re.findall(r"/vp-ray:([\w.-]+)", path.read_text()))
        assert found == {tag}, path
    for name in MANIFESTS:
        assert cluster_of(manifest(name)).rayVersion == version("ray")
    for package, told in re.findall(r"(\w+)==([\d.]+\d)", (CLUSTERS / "Dockerfile").read_text()):
        assert version(package).split("+")[0] == told


def test_the_image_holds_what_it_copies() -> None:
    lines = (CLUSTERS / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert copied
    assert all((ROOT / name).exists() for name in copied)
    assert any(line.startswith("USER ray") for line in lines)


def test_the_script_for_one_machine_says_how_it_is_used() -> None:
    done = subprocess.run([CLUSTERS / "one_node.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "start | stop | status" in done.stderr
    assert subprocess.run(["bash", "-n", CLUSTERS / "one_node.sh"], check=False).returncode == 0
