"""Text-to-image models that draw batches of rows, each with its own seed and guidance scale.

Letters of shapes: B rows, C latent channels, H and W pixel sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vp_ray.errors import ClusterError, SettingsError
from vp_ray.models.config import GeneratorSettings, Scheduler
from vp_ray.models.families.base import Family
from vp_ray.models.families.sdxl import StableDiffusionXL
from vp_ray.models.loading import family_of, load_pipeline, load_refiner, scheduler_like
from vp_ray.models.sampler import ImageRequest, denoise
from vp_ray.records import ImageStatus

TRUNCATED: Final = "prompt_truncated"
"""Flag: every text encoder of the model cuts the prompt; each reads as many first tokens as it takes."""
REDRAWN: Final = "redrawn_in_float32"
"""Flag: the image came out black or not finite in half precision and was drawn once more in float32."""
UNSAFE: Final = "unsafe"
"""Flag: the model's own safety checker objects; the pixels are kept."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One image as it was drawn."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    status: ImageStatus
    flags: tuple[str, ...] = ()


class TextToImage:
    """Draws batches; the same request in a batch of the same size gives the same pixels, wherever it runs on a CPU."""

    def __init__(self, settings: GeneratorSettings) -> None:
        self.settings = settings
        self.pipe: Any = load_pipeline(settings)
        self.family: Family | None = family_of(self.pipe)
        self._own_scheduler = self.pipe.scheduler
        self._refiner: tuple[Family, float] | None = None
        if settings.refiner is not None:
            if not isinstance(self.family, StableDiffusionXL):
                raise SettingsError(
                    f"the model '{settings.name}' takes no refiner", "Remove the key 'refiner': only SDXL has one."
                )
            self._refiner = (StableDiffusionXL(load_refiner(settings, self.pipe)), settings.refiner_start)

    def draw(self, requests: Sequence[ImageRequest], scheduler: Scheduler = "own") -> list[Drawn]:
        """One image a request, all in one forward pass a step; guidance scales may differ within the batch.

        `scheduler` replaces the model's for this batch. An image that comes out black or not finite in half precision
        is drawn once more by itself in float32; what is then still black or not finite says so in its status.
        Raises `ClusterError` when the GPU's memory does not suffice.
        """
        self.pipe.scheduler = self._own_scheduler
        if scheduler not in ("own", self.settings.scheduler):
            self.pipe.scheduler = scheduler_like(self._own_scheduler, scheduler)
        try:
            drawn = self._finish(self._pixels(requests))
            bad = [place for place, one in enumerate(drawn) if one.status != ImageStatus.MADE]
            if bad and self.settings.dtype != "float32":
                for place, one in zip(bad, self._in_float32([requests[place] for place in bad]), strict=True):
                    drawn[place] = replace(one, flags=(*one.flags, REDRAWN))
        except torch.cuda.OutOfMemoryError as error:
            raise ClusterError(
                f"the GPU's memory does not suffice for batches of {len(requests)} images of '{self.settings.name}'",
                "Lower its batch_size, or set vae_tiling.",
            ) from error
        if self.family is None:
            return drawn
        return [
            replace(one, flags=(TRUNCATED, *one.flags)) if self.family.truncated(request.prompt) else one
            for one, request in zip(drawn, requests, strict=True)
        ]

    @torch.no_grad()
    def _pixels(self, requests: Sequence[ImageRequest]) -> Tensor:
        """(B, 3, H, W) float32 in 0..1, on the model's device."""
        if self.family is None:
            return self._by_guidance(requests)
        latents = denoise(
            self.family,
            requests,
            self.settings.steps,
            (self.settings.height, self.settings.width),
            self.settings.negative_prompt,
            self._refiner,
        )
        return self.family.decode(latents).float() / 2 + 0.5

    def _by_guidance(self, requests: Sequence[ImageRequest]) -> Tensor:
        """Any other pipeline, by its own call, once for each guidance scale of the batch."""
        images: list[Tensor | None] = [None] * len(requests)
        sizes = {"height": self.settings.height, "width": self.settings.width}
        for scale in sorted({request.guidance_scale for request in requests}):
            places = [place for place, request in enumerate(requests) if request.guidance_scale == scale]
            chosen = [requests[place] for place in places]
            drawn = self.pipe(
                prompt=[request.prompt for request in chosen],
                num_inference_steps=self.settings.steps,
                guidance_scale=scale,
                generator=[torch.Generator().manual_seed(request.seed) for request in chosen],
                output_type="pt",
                **(
                    {"negative_prompt": [self.settings.negative_prompt] * len(chosen)}
                    if self.settings.negative_prompt
                    else {}
                ),
                **{name: size for name, size in sizes.items() if size is not None},
            ).images
            for place, image in zip(places, drawn, strict=True):
                images[place] = image.float()
        return torch.stack([image for image in images if image is not None])

    def _in_float32(self, requests: Sequence[ImageRequest]) -> list[Drawn]:
        """Each by itself, so that it does not depend on its neighbours; half-precision weights convert without loss."""
        half = getattr(torch, self.settings.dtype)
        pipes = [self.pipe, *([self._refiner[0].pipe] if self._refiner is not None else [])]
        before = self.pipe.vae.dtype
        try:
            for pipe in pipes:
                pipe.to(torch.float32)
            return [self._finish(self._pixels([request]))[0] for request in requests]
        finally:
            for pipe in pipes:
                pipe.to(half)
            self.pipe.vae.to(before)

    def _finish(self, pixels: Tensor) -> list[Drawn]:
        """Images of (B, 3, H, W) values in 0..1, with their statuses and the safety checker's verdicts."""
        finite = pixels.isfinite().flatten(1).all(1).tolist()
        levels = (pixels.clamp(0, 1).nan_to_num(0.0).permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()
        unsafe = self._verdicts(levels)
        drawn = []
        for image, is_finite, is_unsafe in zip(levels, finite, unsafe, strict=True):
            status = ImageStatus.MADE if image.any() else ImageStatus.BLANK
            drawn.append(Drawn(image, status if is_finite else ImageStatus.FAILED, (UNSAFE,) if is_unsafe else ()))
        return drawn

    def _verdicts(self, images: NDArray[np.uint8]) -> list[bool]:
        """What the model's safety checker says of each image; it sees copies, which it may blacken."""
        if not self.settings.safety_checker:
            return [False] * len(images)
        pipe = self.pipe
        inputs = pipe.feature_extractor([Image.fromarray(image) for image in images], return_tensors="pt")
        with torch.no_grad():
            _, verdicts = pipe.safety_checker(
                images=images.astype(np.float32) / 255,
                clip_input=inputs.pixel_values.to(pipe.device, pipe.safety_checker.dtype),
            )
        return [bool(verdict) for verdict in verdicts]
