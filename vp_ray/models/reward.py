"""VP-Score (arXiv 2404.15100): how well an image fits its prompt, one score an aspect.

The shape is ImageReward's (arXiv 2304.05977): a BLIP whose text network reads the prompt while it looks at the image,
and a small head on the state of the first token; here the head has one output for each aspect.
Letters of shapes: B rows (an image and its prompt), P distinct prompts, T tokens, A aspects.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self, cast

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoTokenizer

from vp_ray.errors import CheckpointError, StorageError
from vp_ray.models.blip import load_blip, new_blip_parts
from vp_ray.models.reward_config import Normalisation, VPScoreConfig
from vp_ray.models.reward_inputs import check_batch, pixel_values, prompt_tokens
from vp_ray.models.sources import resolve
from vp_ray.protocols import Pixels, Scores
from vp_ray.records import ASPECTS
from vp_ray.storage import Folder

_CONFIG: Final = "config.json"
_WEIGHTS: Final = "model.safetensors"
SCORING_BATCH: Final = 64


def _new_head(width: int, config: VPScoreConfig) -> nn.Sequential:
    """The head. He's initialisation keeps the size of states and gradients from layer to layer; ImageReward's
    N(0, 1 / (width + 1)) without activations shrinks the first gradients to the size of Adam's epsilon."""
    layers: list[nn.Module] = []
    for hidden in config.head_widths:
        layer = nn.Linear(width, hidden)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.GELU(), nn.Dropout(config.dropout)]
        width = hidden
    last = nn.Linear(width, len(config.aspects))
    nn.init.normal_(last.weight, std=width**-0.5)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


class VPScore(nn.Module):
    """A `Scorer` whose weights can be trained."""

    def __init__(self, config: VPScoreConfig, vision: nn.Module, text: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.vision, self.text = vision, text
        self.head = _new_head(config.blip["text_config"]["hidden_size"], config)

    @classmethod
    def from_backbone(
        cls,
        source: str,
        *,
        revision: str | None = None,
        aspects: Sequence[str] = ASPECTS,
        overall_weights: Mapping[str, float] | None = None,
        head_widths: Sequence[int] = (64,),
        dropout: float = 0.0,
        text_tokens: int | None = None,
        seed: int = 0,
    ) -> Self:
        """A new VP-Score on the BLIP at `source` (`embedded:NAME`, directory or hub id), its head from `seed`."""
        blip = load_blip(source, revision)
        longest: int = blip.config["text_config"]["max_position_embeddings"]
        weights = overall_weights or dict.fromkeys(aspects, 1.0)
        config = VPScoreConfig(
            blip=blip.config,
            image_mean=blip.image_mean,
            image_std=blip.image_std,
            text_tokens=min(text_tokens or longest, longest),
            aspects=tuple(aspects),
            overall_weights=tuple(float(weights.get(aspect, 0.0)) for aspect in aspects),
            head_widths=tuple(head_widths),
            dropout=dropout,
            normalisation=Normalisation.none(len(aspects)),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config, blip.vision, blip.text, blip.tokenizer)

    @property
    def aspects(self) -> tuple[str, ...]:
        """The names of the columns of `score`."""
        return self.config.aspects

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, A) raw scores of (B, 3, side, side) pixel values and (B, T) tokens with their mask; differentiable.

        Each image is encoded once, whatever the number of pairs that are formed of its score.
        """
        seen = self.vision(pixel_values=pixels).last_hidden_state
        states = self.text(
            input_ids=input_ids, attention_mask=attention_mask, encoder_hidden_states=seen
        ).last_hidden_state
        scores: Tensor = self.head(states[:, 0])
        return scores

    def raw_scores(self, images: Pixels, prompts: Sequence[str]) -> Tensor:
        """(B, A) raw scores of images and prompts with gradient, in one forward pass."""
        check_batch(images, prompts)
        tokens = prompt_tokens(self.tokenizer, prompts, self.config.text_tokens)
        ids, mask = (values[tokens.rows].to(self.device) for values in (tokens.ids, tokens.mask))
        return self(pixel_values(images, self.config).to(self.device), ids, mask)

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        """(B, A) scores, normalised as the config says; raises `InputError` where images and prompts do not fit."""
        check_batch(images, prompts)
        training = self.training
        self.eval()
        parts = []
        with torch.inference_mode():
            for first in range(0, len(images), SCORING_BATCH):
                rows = slice(first, first + SCORING_BATCH)
                parts.append(self.raw_scores(images[rows], prompts[rows]).float().cpu().numpy())
        self.train(training)
        raw = np.concatenate(parts)
        measured = self.config.normalisation
        scores: Scores = ((raw - np.array(measured.mean)) / np.array(measured.std)).astype(np.float32)
        return scores

    def overall(self, scores: Scores) -> NDArray[np.float32]:
        """(B,) overall scores from (B, A) scores: the weighted mean of the raw scores, normalised likewise."""
        measured = self.config.normalisation
        raw = scores * np.array(measured.std) + np.array(measured.mean)
        mean = weighted_mean(raw, self.config.overall_weights)
        return ((mean - measured.overall_mean) / measured.overall_std).astype(np.float32)

    def normalise(self, measured: Normalisation) -> None:
        """Sets what `score` subtracts from raw scores and divides them by."""
        self.config = replace(self.config, normalisation=measured)

    def freeze(self, share: float) -> None:
        """Freezes the embeddings and the lowest `share` of both networks' layers, as ImageReward's fix_rate does."""
        if share <= 0:
            return
        vision, text = cast(Any, self.vision), cast(Any, self.text)
        layers = (vision.encoder.layers, text.encoder.layer)
        frozen = [vision.embeddings, text.embeddings]
        frozen += [layer for stack in layers for layer in stack[: int(share * len(stack))]]
        for module in frozen:
            module.requires_grad_(False)

    def save_pretrained(self, place: str | Path) -> None:
        """Writes config.json, model.safetensors and the tokenizer's files to a directory or URI; the config last."""
        folder = Folder.at(place)
        with tempfile.TemporaryDirectory() as temporary:
            self.tokenizer.save_pretrained(temporary)
            for path in sorted(Path(temporary).iterdir()):
                folder.write_bytes(path.name, path.read_bytes())
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        folder.write_bytes(_WEIGHTS, safetensors.torch.save(tensors))
        folder.write_json(_CONFIG, self.config.to_json())

    @classmethod
    def from_pretrained(cls, place: str | Path) -> Self:
        """What `save_pretrained` wrote to a directory or URI, in evaluation mode; else raises `CheckpointError`."""
        folder = Folder.at(resolve(str(place)))
        try:
            config = VPScoreConfig.from_json(folder.read_json(_CONFIG), folder.uri)
            tensors = safetensors.torch.load(folder.read_bytes(_WEIGHTS))
        except (StorageError, SafetensorError) as error:
            raise CheckpointError(
                f"no VP-Score can be read ({error})", "Train it with `vp-ray reward`.", folder.uri
            ) from None
        vision, text = new_blip_parts(config.blip)
        model = cls(config, vision, text, _tokenizer(folder))
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise CheckpointError(
                f"the weights do not fit the config ({error})", "Train it again.", folder.uri
            ) from None
        return model.eval()


def weighted_mean(raw: NDArray[Any], weights: Sequence[float]) -> NDArray[np.float64]:
    """(N,) weighted means of (N, A) raw scores."""
    mean: NDArray[np.float64] = raw @ (np.array(weights) / np.sum(weights))
    return mean


def _tokenizer(folder: Folder) -> Any:
    """The tokenizer whose files lie in the folder; remote ones are fetched to a temporary directory."""
    with ExitStack() as stack:
        if folder.is_local:
            local = folder.local_path
        else:
            local = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for name in folder.names():
                if name not in (_CONFIG, _WEIGHTS):
                    (local / name).write_bytes(folder.read_bytes(name))
        try:
            return AutoTokenizer.from_pretrained(local)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"the tokenizer cannot be read ({error})", "Train it again.", folder.uri) from None
