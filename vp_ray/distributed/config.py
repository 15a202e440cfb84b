"""Settings of where work runs: pools of Ray Data actors, groups of Ray Train workers, their optimiser."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from vp_ray.addresses import is_loopback
from vp_ray.config import Settings


class PoolSettings(Settings):
    """A pool of Ray Data actors."""

    min_actors: int = Field(1, ge=1)
    """Actors that are kept."""
    max_actors: int = Field(1, ge=1)
    """Actors up to which the pool grows while work is waiting."""
    cpus_per_actor: float = Field(1.0, ge=0)
    """Logical CPUs that each actor reserves."""
    gpus_per_actor: float = Field(0.0, ge=0)
    """GPUs that each actor reserves; a fraction shares one."""
    memory_gb_per_actor: float = Field(0.0, ge=0)
    """Heap memory that each actor reserves, in GiB; 0 reserves none."""
    threads_per_actor: int = Field(1, ge=1)
    """OpenMP threads of each actor."""
    accelerator_type: str | None = None
    """Kind of GPU that the actors need, as Ray names it, for instance `L4` or `H100`."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes that may hold the actors, for instance `{ray.io/market-type: spot}`; values may be Ray's
    `in(...)` and `!in(...)` expressions."""

    @model_validator(mode="after")
    def _ordered(self) -> PoolSettings:
        if self.max_actors < self.min_actors:
            raise ValueError("max_actors must be at least min_actors")
        return self


class WorkerSettings(Settings):
    """A group of Ray Train workers, one process a rank."""

    operational: ClassVar[frozenset[str]] = frozenset(
        {"accelerator_type", "cpus_per_worker", "gpus_per_worker", "labels", "threads_per_worker", "max_failures"}
    )

    num_workers: int = Field(1, ge=1)
    """Ranks."""
    cpus_per_worker: float = Field(1.0, gt=0)
    """Logical CPUs that each rank reserves."""
    gpus_per_worker: float = Field(0.0, ge=0)
    """GPUs that each rank reserves; 0 trains on the CPU."""
    threads_per_worker: int = Field(1, ge=1)
    """OpenMP threads of each rank."""
    accelerator_type: str | None = None
    """Kind of GPU that every rank needs, as Ray names it, for instance `L40S` or `H100`."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes that may hold the ranks, for instance `{vp-ray/pool: train}`."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """DeepSpeed ZeRO stage: what is sharded over ranks (1 optimiser state, 2 and gradients, 3 and weights)."""
    max_failures: int = Field(3, ge=0)
    """How often the group is started again after a rank died."""


class OptimizerSettings(Settings):
    """AdamW (arXiv 1711.05101) with gradient clipping."""

    learning_rate: float = Field(1e-4, gt=0)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of gradient and squared gradient."""
    epsilon: float = Field(1e-8, gt=0)
    """Added to the denominator."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this global norm."""


class RaySettings(Settings):
    """Which Ray cluster a run uses."""

    address: str | None = None
    """Address of a running cluster; without one, the cluster that the job was submitted to, or a local one."""
    logical_cpus: int = Field(8, ge=4)
    """Logical CPUs of a local cluster: they bound how many actors and workers run at once, not real cores."""
    dashboard: bool = False
    """Whether a local cluster starts its dashboard, on loopback; it asks for what `ray get-auth-token` prints."""


class OpenJudgeSettings(Settings):
    """An open-weight judge that the run starts in its own cluster with vLLM (the extra `vllm`) while a stage asks it.

    Annotators whose `base_url` is `cluster` are pointed at it. It is stopped after each stage, which frees its GPUs.
    """

    model: str
    """The name under which it is asked, as in the annotators' `model`; also where the weights are."""
    source: str | None = None
    """Hub name or folder of the weights, where that is not `model`."""
    gpus_per_replica: int = Field(1, ge=1)
    """GPUs over which the weights of one replica are spread (tensor parallel)."""
    min_replicas: int = Field(1, ge=1)
    """Replicas that are kept."""
    max_replicas: int = Field(1, ge=1)
    """Replicas up to which it grows under load."""
    accelerator_type: str | None = None
    """Kind of GPU that the replicas need, as Ray names it, for instance `L40S` or `H100`."""
    context_tokens: int = Field(16384, ge=512)
    """Longest request with its reply (vLLM's `max_model_len`)."""
    images_per_request: int = Field(4, ge=1)
    """Most images of one request; at least the stage's `group_size`."""
    concurrent_requests: int = Field(256, ge=1)
    """Requests that one replica holds at once."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of vLLM's engine, for instance `{gpu_memory_utilization: 0.9, dtype: bfloat16}`."""
    host: str = "127.0.0.1"
    """Address on the head node at which the judge is asked. `head` is that node's own address, which the actors of
    other nodes reach; beyond loopback a token is needed."""
    port: int = Field(8000, ge=1, le=65534)
    """Port of that address. Behind a token the next port is Serve's own, on the head's loopback."""
    token_env: str | None = None
    """Environment variable with the bearer token that requests must bring, set on every node."""

    @model_validator(mode="after")
    def _ordered(self) -> OpenJudgeSettings:
        if self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas must be at least min_replicas")
        return self

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> OpenJudgeSettings:
        if self.token_env is None and not is_loopback(self.host):
            raise ValueError("a judge that other machines can reach needs token_env, the name of a variable")
        return self
