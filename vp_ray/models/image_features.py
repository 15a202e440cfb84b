"""What VP-Score's vision network sees in pictures, whatever their prompts: for measures of how much they differ.

Letters of shapes: N pictures, F features.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from vp_ray.models.picture_scorer import SCORING_BATCH
from vp_ray.models.reward import VPScore
from vp_ray.protocols import Pixels


class ImageFeatures:
    """An `ImageEncoder` of a VP-Score's vision network alone."""

    def __init__(self, scorer: VPScore, device: torch.device | str = "cpu") -> None:
        self._backbone, self._preparation, self._device = scorer.backbone, scorer.preparation, torch.device(device)
        # Its text network is not needed, and not sent to the device.
        self._backbone.vision.to(self._device)
        projection = getattr(self._backbone, "vision_projection", None)
        if projection is not None:
            projection.to(self._device)
        self._backbone.eval()

    @torch.inference_mode()
    def features(self, images: Pixels) -> NDArray[np.float32]:
        """(N, F) features of (N, H, W, 3) uint8 pictures: the mean over the tokens of each, or its embedding."""
        parts = []
        for first in range(0, len(images), SCORING_BATCH):
            values = self._preparation.pixel_values(images[first : first + SCORING_BATCH])
            seen = self._backbone.see(values.to(self._device)).float()
            parts.append((seen.mean(dim=1) if seen.dim() == 3 else seen).cpu().numpy())
        return np.concatenate(parts)
