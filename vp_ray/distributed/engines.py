"""Engines: a module with its AdamW, in plain torch or under DeepSpeed, with the same arithmetic and the same files."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed
from torch import Tensor, nn

from vp_ray.distributed.config import OptimizerSettings
from vp_ray.distributed.engine_state import MOMENTS, EngineState, read_state, trainable_parameters, write_state
from vp_ray.errors import CheckpointError, ClusterError, NumericsError

Schedule = Callable[[int], float]
"""A factor on the learning rate for the update of this index, counted from 0."""

ZeroStage = Literal[0, 1, 2, 3]


def _new_optimizer(parameters: list[nn.Parameter], settings: OptimizerSettings) -> torch.optim.AdamW:
    # One group: an empty second group (weight decay or not) breaks DeepSpeed under torch 2.13.
    return torch.optim.AdamW(
        [{"params": parameters}],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        # On a CPU torch's default takes six times as long; on a GPU it is fast, and fused states would lie there.
        fused=all(parameter.device.type == "cpu" for parameter in parameters) or None,
    )


def _checked_norm(norm: float, updates: int) -> float:
    if not math.isfinite(norm):
        raise NumericsError(f"the gradient of update {updates} is not finite", "Lower the learning rate.")
    return norm


def _whole_updates(micro_step: int, folder: Path) -> None:
    if micro_step:
        raise CheckpointError(
            "an engine is saved between updates only", "Save after `accumulate` returned True.", str(folder)
        )


class TorchEngine:
    """An engine in one process."""

    def __init__(
        self, module: nn.Module, optimizer: OptimizerSettings, micro_batches: int = 1, schedule: Schedule | None = None
    ) -> None:
        self._module, self._settings, self._micro_batches = module, optimizer, micro_batches
        self._schedule: Schedule = schedule or (lambda _: 1.0)
        self._parameters = trainable_parameters(module)
        self._optimizer = _new_optimizer(list(self._parameters.values()), optimizer)
        self._micro_step = 0
        self.updates = 0
        self.gradient_norm = 0.0

    @property
    def module(self) -> nn.Module:
        """The module to call in the forward pass."""
        return self._module

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update."""
        return self._settings.learning_rate * self._schedule(self.updates)

    def accumulate(self, loss: Tensor) -> bool:
        """Whether this micro-batch's gradient completed an update; see `protocols.Engine`."""
        (loss / self._micro_batches).backward()
        self._micro_step = (self._micro_step + 1) % self._micro_batches
        if self._micro_step:
            return False
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), self._settings.max_gradient_norm)
        self.gradient_norm = _checked_norm(norm.item(), self.updates)
        self._optimizer.param_groups[0]["lr"] = self.learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.updates += 1
        return True

    def save_weights(self, folder: Path) -> None:
        """Writes the trainable weights alone, as `save` does."""
        write_state(folder, EngineState(dict(self._parameters), {}, self.updates))

    def save(self, folder: Path) -> None:
        """Writes trainable weights, moments and the number of updates."""
        _whole_updates(self._micro_step, folder)
        weights = {name: parameter.detach() for name, parameter in self._parameters.items()}
        state = self._optimizer.state
        moments = {
            kind: {name: state[parameter][key] for name, parameter in self._parameters.items()}
            for kind, key in MOMENTS.items()
            if state
        }
        write_state(folder, EngineState(weights, moments, self.updates))

    def load(self, folder: Path) -> None:
        """Restores what any engine's `save` wrote, bitwise; raises `CheckpointError` where it does not fit."""
        saved = read_state(folder, {name: parameter.shape for name, parameter in self._parameters.items()})
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(saved.weights[name])
                self._optimizer.state.pop(parameter, None)
                for kind, key in MOMENTS.items() if saved.moments else ():
                    state = self._optimizer.state[parameter]
                    state["step"] = torch.tensor(float(saved.updates))
                    state[key] = saved.moments[kind][name].to(parameter.device)
        self.updates, self._micro_step = saved.updates, 0


def _deepspeed(device: torch.device) -> Any:
    """DeepSpeed, told which accelerator to use before its import looks for one, and quiet."""
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    import deepspeed

    # Its shared-memory collectives for CPUs are compiled at first use, which takes minutes and a compiler; gloo does.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*torch\.distributed\..* is deprecated", category=FutureWarning)
    return deepspeed


class DeepSpeedEngine:
    """An engine over all ranks of the process group, which must be initialised; fp32, ZeRO stage 0 to 3."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: OptimizerSettings,
        micro_batches: int = 1,
        schedule: Schedule | None = None,
        *,
        zero_stage: ZeroStage = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if not torch.distributed.is_initialized():
            raise ClusterError("DeepSpeed needs a process group", "Start this through Ray Train, or use TorchEngine.")
        self._settings, self._zero_stage = optimizer, zero_stage
        self._schedule: Schedule = schedule or (lambda _: 1.0)
        self._device = torch.device(device)
        deepspeed = _deepspeed(self._device)
        module = module.to(self._device)
        self._parameters = trainable_parameters(module)
        self._shapes = {name: parameter.shape for name, parameter in self._parameters.items()}
        self._optimizer = _new_optimizer(list(self._parameters.values()), optimizer)
        self._engine, *_ = deepspeed.initialize(
            model=module,
            optimizer=self._optimizer,
            model_parameters=list(self._parameters.values()),
            dist_init_required=False,
            config={
                "train_micro_batch_size_per_gpu": 1,
                "gradient_accumulation_steps": micro_batches,
                "zero_optimization": {"stage": zero_stage},
                # At stage 0 the gradients are whole, so that they are clipped here exactly as TorchEngine does.
                "gradient_clipping": optimizer.max_gradient_norm if zero_stage else 0.0,
                "steps_per_print": 1 << 30,
            },
        )
        self.updates = 0
        self.gradient_norm = 0.0

    @property
    def module(self) -> nn.Module:
        """The module to call in the forward pass."""
        return self._engine.module

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update."""
        return self._settings.learning_rate * self._schedule(self.updates)

    def accumulate(self, loss: Tensor) -> bool:
        """Whether this micro-batch's gradient completed an update; see `protocols.Engine`."""
        if self._zero_stage:
            # Counts this micro-batch: only a forward through DeepSpeed's own wrapper would, and without it stage 3
            # overwrites the gradients of the micro-batch before.
            self._engine.optimizer.clear_backward_seen_flag()
        self._engine.backward(loss)
        complete: bool = self._engine.is_gradient_accumulation_boundary()
        if complete:
            self._engine.optimizer.param_groups[0]["lr"] = self.learning_rate
            if self._zero_stage == 0:
                norm = nn.utils.clip_grad_norm_(self._parameters.values(), self._settings.max_gradient_norm)
                self.gradient_norm = _checked_norm(norm.item(), self.updates)
        self._engine.step()
        if complete:
            if self._zero_stage:
                self.gradient_norm = _checked_norm(float(self._engine.get_global_grad_norm()), self.updates)
            self.updates += 1
        return complete

    def _between_updates(self, folder: Path) -> None:
        _whole_updates(self._engine.micro_steps % self._engine.gradient_accumulation_steps(), folder)

    def save_weights(self, folder: Path) -> None:
        """Writes the trainable weights alone, whole, from rank 0; every rank calls it."""
        weights = {name: self._whole(parameter) for name, parameter in self._parameters.items()}
        if torch.distributed.get_rank() == 0:
            write_state(folder, EngineState(weights, {}, self.updates))
        torch.distributed.barrier()

    def save(self, folder: Path) -> None:
        """Writes trainable weights, moments and the number of updates, whole, from rank 0; every rank calls it."""
        self._between_updates(folder)
        weights = {name: self._whole(parameter) for name, parameter in self._parameters.items()}
        moments = {
            kind: {name: self._whole(parameter, key) for name, parameter in self._parameters.items()}
            for kind, key in MOMENTS.items()
            if self.updates
        }
        if torch.distributed.get_rank() == 0:
            write_state(folder, EngineState(weights, moments, self.updates))
        torch.distributed.barrier()

    def _whole(self, parameter: nn.Parameter, key: str | None = None) -> Tensor:
        """A parameter (or its moment `key`) gathered from the ranks that hold its parts."""
        if self._zero_stage == 0:
            return parameter.detach() if key is None else self._optimizer.state[parameter][key]
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if key is None:
            return safe_get_full_fp32_param(parameter)
        return safe_get_full_optimizer_state(parameter, key)

    def load(self, folder: Path) -> None:
        """Restores what any engine's `save` wrote, bitwise; raises `CheckpointError` where it does not fit."""
        saved = read_state(folder, self._shapes)
        self._new_moments(saved.updates if saved.moments else 0)
        for name, parameter in self._parameters.items():
            self._place(parameter, saved.weights[name].to(self._device))
            for kind, tensors in saved.moments.items():
                self._place(parameter, tensors[name].to(self._device), MOMENTS[kind])
        self.updates = saved.updates
        self._engine.micro_steps = saved.updates * self._engine.gradient_accumulation_steps()

    def _new_moments(self, updates: int) -> None:
        """Gives the optimiser zero moments after `updates` updates, or none at 0, to be filled by `_place`."""
        zero = self._engine.optimizer
        holders = {0: list(self._parameters.values())}.get(self._zero_stage)
        if holders is None:
            holders = (
                zero.fp32_partitioned_groups_flat if self._zero_stage == 3 else zero.single_partition_of_fp32_groups
            )
        for holder in holders:
            self._optimizer.state.pop(holder, None)
            if updates:
                zeros = {key: torch.zeros_like(holder, requires_grad=False) for key in MOMENTS.values()}
                self._optimizer.state[holder] = {"step": torch.tensor(float(updates)), **zeros}
        if self._zero_stage in (1, 2):
            zero._hp_optimizer_states_linked = False
            if updates:
                zero._lazy_init_hp_params_optimizer_state()

    def _place(self, parameter: nn.Parameter, value: Tensor, key: str | None = None) -> None:
        """Sets a parameter (or its moment `key`), of which each rank holds a part or the whole."""
        with torch.no_grad():
            if self._zero_stage == 0 and key is not None:
                self._optimizer.state[parameter][key].copy_(value)
            elif self._zero_stage == 0:
                parameter.copy_(value)
            elif self._zero_stage == 3:
                self._place_sharded(parameter, value, key)
            else:
                self._place_replicated(parameter, value, key)

    def _place_replicated(self, parameter: nn.Parameter, value: Tensor, key: str | None) -> None:
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        if key is not None:
            safe_set_full_optimizer_state(parameter, value, key)
        else:
            safe_set_full_fp32_param(parameter, value)
            parameter.copy_(value)

    def _place_sharded(self, parameter: Any, value: Tensor, key: str | None) -> None:
        from deepspeed.runtime.zero import GatheredParameters
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

        # The ranks' parts are of equal length, so that the last one is padded; safe_set_full_* does not do that.
        length = parameter.ds_tensor.numel()
        padded = nn.functional.pad(value.flatten(), (0, length * torch.distributed.get_world_size() - value.numel()))
        part = padded.narrow(0, length * torch.distributed.get_rank(), length)
        if key is not None:
            safe_set_local_optimizer_state(parameter, part, key)
        else:
            safe_set_local_fp32_param(parameter, part)
            with GatheredParameters([parameter], modifier_rank=0):
                parameter.copy_(value)
