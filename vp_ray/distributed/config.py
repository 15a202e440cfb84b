"""Settings of where work runs: pools of Ray Data actors, groups of Ray Train workers, their optimiser."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

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
    """Whether a local cluster starts its dashboard, on loopback."""
