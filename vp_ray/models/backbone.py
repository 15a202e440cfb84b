"""What the networks have in common that VP-Score's head can stand on.

Letters of shapes: B rows (an image and its prompt), T tokens, W features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """A vision and a text network, and how their outputs become features of an image and its prompt."""

    fills_prompts: ClassVar[bool] = False
    """Whether prompts are padded to the limit and read without a mask."""
    width: int
    """W, the number of features."""
    vision: Any
    text: Any

    def __init__(self, vision: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.vision, self.text = vision, text

    @abstractmethod
    def see(self, pixels: Tensor) -> Tensor:
        """What the rest needs to know of (B, 3, side, side) pixel values; independent of the prompts."""

    @abstractmethod
    def read(self, seen: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, W) features of what was seen and of (B, T) tokens with their mask."""

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, W) features; each image is encoded once."""
        return self.read(self.see(pixels), input_ids, attention_mask)

    @abstractmethod
    def embeddings(self) -> list[nn.Module]:
        """What comes before the first layer of both networks."""

    @abstractmethod
    def layers(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        """The layers of the vision and of the text network, lowest first."""


@dataclass(frozen=True, slots=True)
class Family:
    """How the backbones of one of transformers' model types are loaded and made anew."""

    load: Callable[[str, Mapping[str, str]], tuple[Any, Backbone, frozenset[str]]]
    """transformers' config, the backbone, and the names of the weights that the files lack; of a path or hub id."""
    new: Callable[[Mapping[str, Any]], Backbone]
    """A backbone of this shape, with weights that are still to be loaded."""
    processor: Any
    """transformers' image processor, which knows the mean and standard deviation of the pixels."""
    fit: str
    """How pictures are fitted: `Preparation.fit`."""
