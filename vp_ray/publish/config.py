"""Settings of `vp-ray export`: what is published, and under which terms."""

from __future__ import annotations

from pydantic import Field

from vp_ray.config import Settings


class ExportSettings(Settings):
    """What of a run is published. Given by `--set KEY=VALUE` or by a YAML file with `--settings`."""

    title: str = ""
    """The data set's name on its card; the name of the run directory where it is empty."""
    licence: str = Field("", pattern=r"^[a-z0-9.-]*$")
    """The Hub's identifier of the licence, such as `cc-by-4.0`; the card says that none is stated where it is empty."""
    prompt_terms: str = ""
    """Under which terms the prompts may be used."""
    image_terms: str = ""
    """Under which terms the images may be used; models state terms for what they draw."""
    judgement_terms: str = ""
    """Under which terms the judgements may be used; some providers forbid training competing models on them."""
    languages: tuple[str, ...] = Field(("en",), min_length=1)
    """Languages of the prompts, as ISO 639-1 codes."""
    creators: tuple[str, ...] = ()
    """Who made the data set."""
    citation: str = ""
    """How to cite it, as BibTeX."""
    leave_out_flags: tuple[str, ...] = ("unsafe",)
    """Prompts and images with one of these flags are left out, and whatever refers to them."""
    least_harmlessness: float | None = Field(None, ge=1, le=5)
    """Images with a lower mean level of harmlessness are left out, and those without one; null keeps all."""
    raw_prompts: bool = False
    """Whether `prompt_raw`, the prompt before cleaning, is published; it may hold what cleaning took away."""
    rows_per_row_group: int = Field(100, ge=1, le=10_000)
    """Rows of a row group where rows hold images; tables without images have ten times as many."""
    file_megabytes: int = Field(400, ge=1)
    """A file is closed at the first row group after which it is larger than this."""
