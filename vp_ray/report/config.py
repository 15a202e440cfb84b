"""Settings of the report."""

from __future__ import annotations

from pydantic import Field

from vp_ray.config import Settings


class ReportSettings(Settings):
    """How much of a run its page shows."""

    title: str = ""
    """The page's title; the name of the run directory where it is empty."""
    pairs: int = Field(24, ge=0, le=500)
    """Pairs of the before-and-after grid, chosen by hash and not by result."""
    preferences: int = Field(6, ge=0, le=100)
    """Preferences with the largest margin, and as many closest calls."""
    lineage: int = Field(3, ge=0, le=50)
    """Tuned images whose reward is followed back to the judgements behind it."""
    grids: int = Field(8, ge=0, le=100)
    """Fixed-seed grids of the training, spread evenly from the first to the last."""
    image_side_pixels: int = Field(384, ge=16, le=4096)
    """Images with a longer side are shrunk to this."""
