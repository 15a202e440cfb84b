"""What the estimate of a whole job counts with; nothing else reads it."""

from __future__ import annotations

from pydantic import Field

from vp_ray.config import Settings


class EstimateSettings(Settings):
    """Amounts, speeds and prices by which `--dry-run` states hours and dollars of a whole job.

    Speeds of drawing are the generators' `images_per_second`. What the run itself has counted or measured takes the
    place of what is stated here.
    """

    prompts: int | None = Field(None, ge=1)
    """Prompts that are expected after cleaning."""
    words_per_prompt: int = Field(25, ge=1)
    """Length of a prompt."""
    gpu_usd_per_hour: float | None = Field(None, ge=0)
    """Price of a GPU that draws, with its share of the machine."""
    training_gpu_usd_per_hour: float | None = Field(None, ge=0)
    """Price of a GPU that trains; that of one that draws where it is not set."""
    groups_per_second: float | None = Field(None, gt=0)
    """Prompts of whose images one rank of `reward.workers` learns in a second."""
    rl_images_per_second: float | None = Field(None, gt=0)
    """Images that one rank of `rl.workers` draws, has scored and learns from in a second."""
    judge_requests_per_minute: float | None = Field(None, gt=0)
    """Requests a minute that a judge without a limit of its own answers: one in the cluster, with all its replicas."""
    as_of: str = ""
    """Of when prices and speeds are, and whence."""
