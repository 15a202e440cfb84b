"""Generators by name: where they come from, and their usual size and precision.

`{preset: sd15}` in a job file stands for the keys below; keys beside it win. The first four are the generators of
VisionPrefer (arXiv 2404.15100, section 3.1), which draws each prompt at a varied guidance scale.
"""

from __future__ import annotations

from typing import Any, Final

_VARIED: Final = (3.0, 12.0)

PRESETS: Final[dict[str, dict[str, Any]]] = {
    "sd15": {
        "source": "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "height": 512,
        "width": 512,
        "dtype": "float16",
        "steps": 50,
        "guidance_scale": _VARIED,
        "batch_size": 16,
    },
    "sd21": {
        "source": "stabilityai/stable-diffusion-2-1",
        "height": 768,
        "width": 768,
        "dtype": "float16",
        "steps": 50,
        "guidance_scale": _VARIED,
        "batch_size": 8,
    },
    "dreamlike": {
        "source": "dreamlike-art/dreamlike-photoreal-2.0",
        "dtype": "float16",
        "height": 768,
        "width": 768,
        "steps": 50,
        "guidance_scale": _VARIED,
        "batch_size": 8,
    },
    "sdxl": {
        "source": "stabilityai/stable-diffusion-xl-base-1.0",
        "height": 1024,
        "width": 1024,
        "variant": "fp16",
        "dtype": "float16",
        "steps": 50,
        "guidance_scale": _VARIED,
        "batch_size": 4,
    },
    "sdxl_refined": {
        "source": "stabilityai/stable-diffusion-xl-base-1.0",
        "height": 1024,
        "width": 1024,
        "refiner": "stabilityai/stable-diffusion-xl-refiner-1.0",
        "variant": "fp16",
        "dtype": "float16",
        "steps": 50,
        "guidance_scale": _VARIED,
        "batch_size": 4,
    },
    "sd35": {
        "source": "stabilityai/stable-diffusion-3.5-medium",
        "height": 1024,
        "width": 1024,
        "dtype": "bfloat16",
        "steps": 28,
        "guidance_scale": (3.0, 7.0),
        "batch_size": 4,
    },
    "flux": {
        "source": "black-forest-labs/FLUX.1-dev",
        "height": 1024,
        "width": 1024,
        "dtype": "bfloat16",
        "steps": 28,
        "guidance_scale": 3.5,
        "batch_size": 2,
    },
}
"""What each preset stands for, as keys of `GeneratorSettings`."""
