"""VP-Score (arXiv 2404.15100): how well an image fits its prompt, one score an aspect.

The shape is ImageReward's (arXiv 2304.05977): a BLIP whose text network reads the prompt while it looks at the image,
and a small head on the state of the first token; here the head has one output for each aspect. CLIP and SigLIP, whose
embeddings of image and prompt the head joins, are the other families.
Letters of shapes: B rows (an image and its prompt), T tokens, A aspects.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoTokenizer

from vp_ray.errors import CheckpointError, StorageError
from vp_ray.local_copies import to_read
from vp_ray.models.backbone import Backbone
from vp_ray.models.backbones import FAMILIES, load_backbone
from vp_ray.models.picture_scorer import PictureScorer
from vp_ray.models.reward_config import Normalisation, VPScoreConfig, weighted_mean
from vp_ray.models.reward_inputs import PromptReader
from vp_ray.models.sources import resolve
from vp_ray.protocols import Pixels, Scores
from vp_ray.records import ASPECTS
from vp_ray.storage import Folder

_CONFIG: Final = "config.json"
_WEIGHTS: Final = "model.safetensors"


def new_head(width: int, config: VPScoreConfig) -> nn.Sequential:
    """The head: features of mean square about 1 in, one raw score an aspect out.

    He's initialisation keeps the size of states and gradients from layer to layer; ImageReward's N(0, 1 / (width + 1))
    without activations shrinks the first gradients below Adam's epsilon.
    """
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


class VPScore(PictureScorer):
    """A scorer whose weights can be trained."""

    reader: PromptReader

    def __init__(self, config: VPScoreConfig, backbone: Backbone, tokenizer: Any) -> None:
        super().__init__(
            config.aspects, config.preparation, PromptReader(tokenizer, config.text_tokens, backbone.fills_prompts)
        )
        self.config = config
        self.backbone = backbone
        self.head = new_head(backbone.width, config)

    @classmethod
    def from_backbone(
        cls,
        source: str,
        *,
        revision: str | None = None,
        pretrained: bool = True,
        aspects: Sequence[str] = ASPECTS,
        overall_weights: Mapping[str, float] | None = None,
        head_widths: Sequence[int] = (64,),
        dropout: float = 0.0,
        text_tokens: int | None = None,
        seed: int = 0,
    ) -> Self:
        """A new VP-Score on the BLIP, CLIP or SigLIP at `source` (`embedded:NAME`, directory or hub id), its head from
        `seed`; without `pretrained` the backbone's weights are random, too."""
        found = load_backbone(source, revision)
        weights = overall_weights or dict.fromkeys(aspects, 1.0)
        config = VPScoreConfig(
            family=found.family,
            backbone=found.config,
            preparation=found.preparation,
            text_tokens=min(text_tokens or found.longest, found.longest),
            aspects=tuple(aspects),
            overall_weights=tuple(float(weights.get(aspect, 0.0)) for aspect in aspects),
            head_widths=tuple(head_widths),
            dropout=dropout,
            normalisation=Normalisation.none(len(aspects)),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = found.backbone if pretrained else FAMILIES[found.family].new(found.config)
            return cls(config, backbone, found.tokenizer)

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, A) raw scores of (B, 3, side, side) pixel values and (B, T) tokens with their mask; differentiable.

        Each image is encoded once, whatever the number of pairs that are formed of its score.
        """
        scores: Tensor = self.head(self.backbone(pixels, input_ids, attention_mask))
        return scores

    def scaled(self, raw: Tensor) -> Tensor:
        """(B, A) raw scores less their mean and divided by their standard deviation, as the config has them."""
        measured = self.config.normalisation
        mean, std = (raw.new_tensor(values, dtype=torch.float64) for values in (measured.mean, measured.std))
        return ((raw.double() - mean) / std).float()

    def overall(self, scores: Scores) -> NDArray[np.float32]:
        """(B,) overall scores from (B, A) scores: the weighted mean of the raw scores, normalised likewise."""
        measured = self.config.normalisation
        raw = scores * np.array(measured.std) + np.array(measured.mean)
        mean = weighted_mean(raw, self.config.overall_weights)
        return ((mean - measured.overall_mean) / measured.overall_std).astype(np.float32)

    def normalise(self, measured: Normalisation) -> None:
        """Sets what `score` subtracts from raw scores and divides them by."""
        self.config = replace(self.config, normalisation=measured)

    def normalise_on(self, images: Pixels, prompts: Sequence[str], stated: str) -> None:
        """Makes scores on these images and prompts have mean 0 and standard deviation 1; `stated` names the set."""
        self.normalise(Normalisation.none(len(self.aspects)))
        raw = self.score(images, prompts)
        self.normalise(Normalisation.measured(raw, self.config.overall_weights, stated))

    def freeze(self, share: float) -> None:
        """Freezes the embeddings and the lowest `share` of both networks' layers, as ImageReward's fix_rate does."""
        if share <= 0:
            return
        frozen = self.backbone.embeddings()
        frozen += [layer for stack in self.backbone.layers() for layer in list(stack)[: int(share * len(stack))]]
        for module in frozen:
            module.requires_grad_(False)

    def save_pretrained(self, place: str | Path) -> None:
        """Writes config.json, model.safetensors and the tokenizer's files to a directory or URI; the config last."""
        folder = Folder.at(place)
        with tempfile.TemporaryDirectory() as temporary:
            self.reader.tokenizer.save_pretrained(temporary)
            for path in sorted(Path(temporary).iterdir()):
                folder.write_bytes(path.name, path.read_bytes())
            tokenizer = sorted(path.name for path in Path(temporary).iterdir())
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        folder.write_bytes(_WEIGHTS, safetensors.torch.save(tensors))
        folder.seal([_CONFIG, _WEIGHTS, *tokenizer])
        folder.write_json(_CONFIG, self.config.to_json())

    @classmethod
    def from_pretrained(cls, place: str | Path) -> Self:
        """What `save_pretrained` wrote to a directory or URI, in evaluation mode; else raises `CheckpointError`."""
        folder = Folder.at(resolve(str(place)))
        if not folder.exists(_CONFIG):
            raise CheckpointError(
                f"no VP-Score is there (no {_CONFIG})",
                "Correct the path, or train one with `vp-ray reward`.",
                folder.uri,
            )
        try:
            config = VPScoreConfig.from_json(folder.read_json(_CONFIG), folder.uri)
            tensors = safetensors.torch.load(folder.read_bytes(_WEIGHTS))
        except (StorageError, SafetensorError) as error:
            raise CheckpointError(
                f"no VP-Score can be read ({error})", "Train it with `vp-ray reward`.", folder.uri
            ) from None
        if config.family not in FAMILIES:
            raise CheckpointError(
                f"the backbone's family '{config.family}' is not known", "Use the version that wrote it.", folder.uri
            )
        model = cls(config, FAMILIES[config.family].new(config.backbone), _tokenizer(folder))
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise CheckpointError(
                f"the weights do not fit the config ({error})", "Train it again.", folder.uri
            ) from None
        return model.eval()


def _tokenizer(folder: Folder) -> Any:
    """The tokenizer whose files lie in the folder; remote ones are fetched to a temporary directory."""
    kept = [] if folder.is_local else [name for name in folder.names() if name not in (_CONFIG, _WEIGHTS)]
    with to_read(folder, kept) as local:
        try:
            return AutoTokenizer.from_pretrained(local)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"the tokenizer cannot be read ({error})", "Train it again.", folder.uri) from None
