"""The open-weight judge: its configuration as Ray checks it, and what is said where vLLM is not installed.

No GPU and no vLLM are here: that a model really answers is for `tests/gpu`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.small_runs import small_run
from vp_ray.cli import main
from vp_ray.distributed.config import OpenJudgeSettings
from vp_ray.distributed.open_judge import llm_config, serve_config
from vp_ray.errors import ClusterError, SettingsError
from vp_ray.judging.config import pointed_at
from vp_ray.judging.prices import FREE, price_of
from vp_ray.pipeline.resources import Resources
from vp_ray.pipeline.running import run_job
from vp_ray.pipeline.settings import JobSettings, load_job
from vp_ray.storage import RunFolder

JOB = Path(__file__).parents[3] / "jobs" / "open_judge.yaml"
without_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")


def settings(**changes: Any) -> OpenJudgeSettings:
    return OpenJudgeSettings.load({"model": "Qwen/Qwen2.5-VL-7B-Instruct", **changes})


def test_rays_own_configuration_takes_what_the_job_file_says() -> None:
    from ray.llm._internal.serve.core.configs.llm_config import LLMConfig

    judge = load_job(JOB).open_judge
    assert judge is not None
    checked = LLMConfig.model_validate(llm_config(judge))
    assert checked.model_id == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert checked.engine_kwargs["limit_mm_per_prompt"] == {"image": 4}
    assert checked.engine_kwargs["gpu_memory_utilization"] == 0.9
    assert checked.deployment_config["autoscaling_config"] == {"min_replicas": 1, "max_replicas": 4}


@pytest.mark.parametrize("accelerator", ["L40S", "H100"])
def test_kinds_of_gpu_are_those_that_ray_knows(accelerator: str) -> None:
    from ray.llm._internal.serve.core.configs.llm_config import LLMConfig

    assert LLMConfig.model_validate(llm_config(settings(accelerator_type=accelerator))).accelerator_type == accelerator
    with pytest.raises(ValueError, match="Unsupported accelerator type: L40X"):
        LLMConfig.model_validate(llm_config(settings(accelerator_type="L40X")))


def test_the_deployment_is_one_that_serve_takes() -> None:
    from ray.serve.config import AutoscalingConfig
    from ray.serve.schema import ServeDeploySchema

    own = settings(max_replicas=3, port=8123, gpus_per_replica=2)
    schema = ServeDeploySchema.model_validate(serve_config(own))
    assert schema.http_options.port == 8123
    assert schema.http_options.host == "127.0.0.1"
    assert schema.applications[0].import_path == "ray.serve.llm:build_openai_app"
    (config,) = schema.applications[0].args["llm_configs"]
    assert config["engine_kwargs"]["tensor_parallel_size"] == 2
    assert AutoscalingConfig(**config["deployment_config"]["autoscaling_config"]).max_replicas == 3


def test_annotators_are_pointed_at_it_and_cost_nothing() -> None:
    job = load_job(JOB)
    assert job.annotate is not None
    assert job.asks_open_judge
    (annotator,) = job.annotate.annotators
    assert price_of(annotator) == FREE
    pointed = pointed_at(annotator, "http://10.0.0.1:8000/v1")
    assert pointed.base_url == "http://10.0.0.1:8000/v1"
    price = price_of(pointed)
    assert price is not None
    assert price.cost_usd(1000, 1000) == 0.0


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("open_judge=null", "has base_url 'cluster', but there is no section 'open_judge'"),
        ("open_judge.model=other/model", "asks for 'Qwen/Qwen2.5-VL-7B-Instruct', and open_judge is 'other/model'"),
        ("open_judge.images_per_request=2", "must be at least annotate.group_size, which is 4"),
        ("open_judge.min_replicas=9", "max_replicas must be at least min_replicas"),
        ("annotate.annotators.0.batch={}", "serves no batches"),
        ("annotate.annotators.0.api_key_env=KEY", "api_key_env has no effect with base_url 'cluster'"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_job_is_read(change: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        load_job(JOB, [change])


@without_vllm
def test_without_vllm_the_stage_and_the_doctor_say_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small_run(tmp_path / "run", prompts=2)
    job = load_job(JOB, [f"run={run.uri}", "prompts=null", "generate=null"])
    with pytest.raises(ClusterError, match=r"vllm is not installed\. Install the extra on every node.*vp-ray\[vllm\]"):
        run_job(job, "annotate", "annotate")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(JOB)])
    assert ended.value.code == 1
    told = [line for line in capsys.readouterr().out.splitlines() if "vllm" in line]
    assert len(told) == 1
    assert told[0].startswith("LACKS vllm: not installed - Run `pip install 'vp-ray[vllm]'`")


def test_a_stage_that_does_not_ask_it_keeps_its_settings(tmp_path: Path) -> None:
    job = JobSettings.load({"run": str(tmp_path), "prompts": {"sources": [{"kind": "text", "path": "x"}]}})
    with Resources(job, RunFolder.at(tmp_path)) as resources:
        assert resources.pointed("prompts") is job.prompts
