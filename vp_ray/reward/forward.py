"""How a training gets scores from its model: what never changes is worked out once.

Letters of shapes: B rows (an image and its prompt), T tokens, A aspects.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vp_ray.ids import content_id
from vp_ray.models.frozen_prefix import FrozenPrefix
from vp_ray.models.frozen_states import CachedPrefix, DiskStates, MemoryStates, NoStates, States
from vp_ray.models.gradient_checkpointing import checkpoint_layers
from vp_ray.models.reward import VPScore
from vp_ray.protocols import Pixels
from vp_ray.reward.config import FrozenStatesSettings, RewardSettings
from vp_ray.storage import Folder

FROZEN_STATES: Final = "frozen_states"
"""Folder of the states of the frozen layers, in the stage's own."""
_SCORED_TOGETHER: Final = 16
"""Rows of a forward pass without gradient."""


@dataclass(frozen=True, slots=True)
class Forward:
    """A model whose frozen prefix, where it has one, was taken out and is asked for its states instead."""

    model: VPScore
    prefix: CachedPrefix | None = None
    precision: torch.dtype = torch.float32
    """Of matrix products; weights, their gradients and scores are float32."""
    _tokens: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __call__(self, blocks: Sequence[Pixels], prompts: Sequence[str]) -> Tensor:
        """(B, A) raw scores of all images of the blocks, in one forward pass; `prompts` has one text for each image.

        A block is what goes through the frozen prefix together; see `CachedPrefix.states`.
        """
        device = self.model.device
        prepare = self.model.preparation.pixel_values
        reduced = self.precision != torch.float32
        with torch.autocast(device.type, self.precision if reduced else torch.bfloat16, enabled=reduced):
            inputs = (
                prepare(np.concatenate(blocks)).to(device)
                if self.prefix is None
                else self.prefix.states(blocks, prepare)
            )
            ids, mask = self._read(prompts)
            scores: Tensor = self.model(inputs, ids.to(device), mask.to(device))
        return scores.float()

    def _read(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(B, T) tokens and (B, T) mask; a prompt is cut into tokens once in a training."""
        reader = self.model.reader
        for prompt in prompts:
            if prompt not in self._tokens:
                tokens = reader.tokens([prompt])
                self._tokens[prompt] = (tokens.ids[0], tokens.mask[0])
        found = [self._tokens[prompt] for prompt in prompts]
        padding = reader.tokenizer.pad_token_id or 0
        ids = pad_sequence([ids for ids, _ in found], batch_first=True, padding_value=padding)
        return ids, pad_sequence([mask for _, mask in found], batch_first=True)

    def raw(self, images: Pixels, prompts: Sequence[str]) -> NDArray[np.float32]:
        """(B, A) raw scores of (B, side, side, 3) images and B prompts, without gradient and dropout."""
        training = self.model.training
        self.model.eval()
        parts = []
        # Not inference mode: the states of the prefix are kept, and a training needs them.
        with torch.no_grad():
            for first in range(0, len(images), _SCORED_TOGETHER):
                rows = slice(first, first + _SCORED_TOGETHER)
                parts.append(self([images[rows]], prompts[rows]).cpu().numpy())
        self.model.train(training)
        return np.concatenate(parts)


def new_forward(
    settings: RewardSettings, model: VPScore, device: torch.device, folder: Folder, ranks: int = 1
) -> Forward:
    """How one of `ranks` ranks trains the model on the device; the model is without its frozen prefix from now on.

    The prefix is no part of what an engine shards or moves. States on disk lie in `folder`.
    """
    if settings.gradient_checkpointing:
        checkpoint_layers(model)
    precision = _precision(settings.precision, device)
    prefix = FrozenPrefix.take_from(model.backbone.vision) if settings.frozen_share else None
    model.to(device)
    if prefix is None:
        return Forward(model, None, precision)
    store = _store(settings.frozen_states, prefix, folder, ranks)
    return Forward(model, CachedPrefix(prefix.to(device), store, str(precision)), precision)


def _store(settings: FrozenStatesSettings, prefix: FrozenPrefix, folder: Folder, ranks: int) -> States:
    limit = int(settings.limit_gb * 2**30)
    if settings.store == "memory":
        return MemoryStates(limit)
    if settings.store == "disk":
        return DiskStates(_place_of(folder), prefix.fingerprint, limit, ranks)
    return NoStates()


def _place_of(folder: Folder) -> Path:
    """Where states lie on a disk: in the stage's folder or, where that is on an object store, in this machine's own."""
    if folder.is_local:
        return (folder / FROZEN_STATES).local_path
    return Path(tempfile.gettempdir()) / f"vp-ray-{FROZEN_STATES}-{content_id('folder', folder.uri)}"


def forget_copies(folder: Folder) -> None:
    """Removes the states that this machine keeps in a folder of its own."""
    if not folder.is_local:
        shutil.rmtree(_place_of(folder), ignore_errors=True)


def _precision(wanted: str, device: torch.device) -> torch.dtype:
    """What `reward.precision` means on this device."""
    if wanted == "auto":
        wanted = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32
