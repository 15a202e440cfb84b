"""An open-weight judge in the same cluster: vLLM under Ray Serve's `ray.serve.llm`, as an OpenAI-compatible address."""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

import ray
from ray import serve
from ray.serve._private.constants import SERVE_LOGGER_NAME

from vp_ray.distributed.config import OpenJudgeSettings
from vp_ray.distributed.orphans import own_app_name, remove_orphans
from vp_ray.distributed.token_gate import running_gate
from vp_ray.errors import ClusterError

HEAD: Final = "head"
_LOOPBACK: Final = "127.0.0.1"
_ANSWER_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.5


def llm_config(settings: OpenJudgeSettings) -> dict[str, Any]:
    """The judge as `ray.serve.llm.LLMConfig` takes it."""
    return {
        "model_loading_config": {"model_id": settings.model, "model_source": settings.source or settings.model},
        "accelerator_type": settings.accelerator_type,
        "engine_kwargs": {
            "tensor_parallel_size": settings.gpus_per_replica,
            "max_model_len": settings.context_tokens,
            "limit_mm_per_prompt": {"image": settings.images_per_request},
            **settings.engine,
        },
        "deployment_config": {
            "autoscaling_config": {"min_replicas": settings.min_replicas, "max_replicas": settings.max_replicas},
            "max_ongoing_requests": settings.concurrent_requests,
        },
    }


def serve_config(settings: OpenJudgeSettings) -> dict[str, Any]:
    """The same as a configuration file of `serve deploy`, for a judge that outlives its runs."""
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": _LOOPBACK, "port": settings.port},
        "applications": [
            {
                "name": "open-judge",
                "route_prefix": "/",
                "import_path": "ray.serve.llm:build_openai_app",
                "args": {"llm_configs": [llm_config(settings)]},
            }
        ],
    }


def check_vllm() -> None:
    """Nothing where vLLM is installed; raises `ClusterError` with the remedy."""
    if importlib.util.find_spec("vllm") is None:
        raise ClusterError(
            "a stage asks the open-weight judge, but vllm is not installed",
            "Install the extra on every node (`pip install 'vp-ray[vllm]'`, Linux with NVIDIA GPUs), or start a judge "
            "elsewhere and give its base_url.",
            "open_judge",
        )


def start_http(settings: OpenJudgeSettings) -> None:
    """Starts Serve with its proxy on the head node, unless it runs: later starts change nothing."""
    logging.getLogger(SERVE_LOGGER_NAME).setLevel(logging.WARNING)
    options = {"host": _address(settings), "port": settings.port}
    if settings.token_env is not None:
        options = {"host": _LOOPBACK, "port": settings.port + 1}
    serve.start(proxy_location="HeadOnly", http_options=options, logging_config={"log_level": "WARNING"})


@contextmanager
def running_open_judge(settings: OpenJudgeSettings) -> Iterator[str]:
    """The base URL (`.../v1`) of the judge, which is deleted with the context, and its GPUs freed.

    Ray must be connected. Raises `ClusterError` where vLLM is missing, the settings are refused by Ray, the model does
    not come up, or the address does not answer.
    """
    check_vllm()
    from ray.serve.llm import LLMConfig, build_openai_app

    name = own_app_name("open-judge")
    try:
        app = build_openai_app({"llm_configs": [LLMConfig(**llm_config(settings))]})
    except ValueError as error:
        raise ClusterError(f"Ray refuses the open-weight judge ({error})", "Correct it.", "open_judge") from error
    start_http(settings)
    remove_orphans()
    try:
        try:
            serve.run(app, name=name, route_prefix="/")
        except RuntimeError as error:
            raise ClusterError(
                f"the open-weight judge '{settings.model}' does not come up ({error})",
                "Look at its replica's log in the dashboard: GPUs, memory, or the model's name.",
                "open_judge",
            ) from error
        host, port = _address(settings), settings.port
        with ExitStack() as stack:
            headers = {}
            if settings.token_env is not None:
                stack.enter_context(running_gate(host, port, f"http://{_LOOPBACK}:{port + 1}", settings.token_env))
                headers = {"Authorization": f"Bearer {os.environ.get(settings.token_env, '').strip()}"}
            _wait_for(host, port, headers)
            yield f"http://{host}:{port}/v1"
    finally:
        serve.delete(name)


def _address(settings: OpenJudgeSettings) -> str:
    """Where the head node's proxy listens."""
    if settings.host != HEAD:
        return settings.host
    heads = [node for node in ray.nodes() if node["Alive"] and "node:__internal_head__" in node["Resources"]]
    return str(heads[0]["NodeManagerAddress"])


def _wait_for(host: str, port: int, headers: Mapping[str, str]) -> None:
    deadline = time.monotonic() + _ANSWER_SECONDS
    problem = "no answer"
    while time.monotonic() < deadline:
        connection = HTTPConnection(host, port, timeout=5)
        try:
            connection.request("GET", "/v1/models", headers=dict(headers))
            status = connection.getresponse().status
        except (OSError, HTTPException) as error:
            problem = str(error)
        else:
            if status == 200:
                return
            problem = f"HTTP {status}"
        finally:
            connection.close()
        time.sleep(_POLL_SECONDS)
    raise ClusterError(
        f"the open-weight judge runs, but http://{host}:{port} does not answer ({problem})",
        "Run the job on the head node, where Serve's proxy is, and set open_judge.host to `head` on a cluster of "
        "several nodes; Serve may also have been started before, with another address.",
        "open_judge",
    )
