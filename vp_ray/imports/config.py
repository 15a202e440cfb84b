"""Settings of the import stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vp_ray.config import Settings

Kind = Literal["rankings", "imagereward", "hpdv2", "pickapic", "richhf", "mos", "visionprefer", "table", "images"]
RatedAspect = Literal["prompt_following", "aesthetic", "fidelity", "harmlessness", "overall"]


class ColumnMapping(Settings):
    """Which columns of a table of your own mean what."""

    layout: Literal["pairs", "rankings", "ratings"]
    """One row is a choice between two images, one person's rank of one image, or one image's ratings."""
    prompt: str = "prompt"
    """The prompt."""
    image: str = "image"
    """The image's file name (`rankings`, `ratings`)."""
    image_a: str = "image_a"
    """The file name of the image that was shown first (`pairs`)."""
    image_b: str = "image_b"
    """The other image (`pairs`)."""
    generator: str | None = None
    """What made the image; nobody knows where it is not set."""
    generator_a: str | None = None
    """The same for the first image (`pairs`)."""
    generator_b: str | None = None
    """The same for the other image (`pairs`)."""
    rater: str | None = None
    """Who answered; all answers are one person's where it is not set."""
    answered_at: str | None = None
    """When: seconds since 1970, or a date and time in ISO 8601."""
    answer: str = "answer"
    """The choice (`pairs`)."""
    answers: dict[str, Literal["a", "b", "tie", "none"]] = Field(
        {"a": "a", "b": "b", "tie": "tie", "0": "a", "1": "b", "0.5": "tie", "": "none"}, min_length=1
    )
    """What each value of `answer` means; `none` is a person who passed (`pairs`)."""
    aspect: RatedAspect = "overall"
    """The aspect that was chosen by (`pairs`)."""
    rank: str = "rank"
    """The rank, smaller is better and equal ones tie (`rankings`)."""
    ratings: dict[RatedAspect, str] = Field({"overall": "rating"}, min_length=1)
    """The column of each aspect's rating (`ratings`)."""


class ImportSettings(Settings):
    """An existing data set that takes the place of prompts, generate and annotate."""

    kind: Kind
    """`rankings`: JSON lines with `prompt`, `images` (file names) and `ranks_by_annotator` (one list a person, 1 is
    best); `imagereward`: ImageRewardDB's groups (`generations`, `ranking`) or images (`image_path`, `rank`, ratings);
    `hpdv2`: its train (`human_preference`) or test (`raw_annotations`) JSON; `pickapic`: Parquet files of version 1 or
    2, with or without images; `richhf`: RichHF-18K's scores; `mos`: tables of mean opinion scores such as AGIQA-3K;
    `visionprefer`: JSON lines of prompts whose images have a level an aspect; `table`: a table of your own; `images`:
    pictures that nobody has judged, for the annotate stage: rows of `prompt`, `image` (a file name) and perhaps
    `generator`, or a folder of pictures with each one's prompt in a text file of the same name."""
    path: str = Field(min_length=1)
    """The file (JSON, JSON lines, CSV, TSV or Parquet), or a folder of Parquet files, or of pictures (`images`)."""
    images: str | None = None
    """Folder of the image files; where it is not set, `images` beside the file, or for kind `images` the folder that
    the file is in."""
    pictures: Literal["required", "optional", "none"] = "required"
    """Whether an image without a picture is refused, or imported by name alone; `none` reads no pictures. Preferences
    can be made and checked without pictures, but no model can be trained on them."""
    bad_rows: Literal["refuse", "skip"] = "refuse"
    """What becomes of rows that cannot be used: the import ends at the first, or leaves them out and names each of them
    in `bad_rows.jsonl`."""
    split: Literal["train", "held_out"] = "train"
    """The split of all prompts."""
    held_out_share: float = Field(0.0, ge=0, lt=1)
    """Share of the prompts, by hash, that are held out whatever `split` says."""
    scale: tuple[float, float] | None = None
    """Lowest and highest rating, which become the levels 1 and 5; each kind has its own where it is not set (1..7 for
    `imagereward`, 0..1 for `richhf`, 0..5 for `mos`, 1..5 for `table`)."""
    raters: int | None = Field(None, ge=1)
    """How many people a mean opinion score is the mean of, for its standard error; without it the least is assumed."""
    columns: ColumnMapping | None = None
    """What the columns of kind `table` mean."""
    limit: int | None = Field(None, ge=1)
    """Takes only the first rows."""

    @model_validator(mode="after")
    def _settings_have_effect(self) -> ImportSettings:
        if (self.columns is None) == (self.kind == "table"):
            raise ValueError("`columns` goes with kind `table`, and only with it")
        if self.raters is not None and self.kind != "mos":
            raise ValueError("`raters` has no effect but with kind `mos`")
        rated = self.kind in ("imagereward", "richhf", "mos") or (
            self.columns is not None and self.columns.layout == "ratings"
        )
        if self.scale is not None and not rated:
            raise ValueError(f"`scale` has no effect with kind `{self.kind}`, which holds no ratings of a scale")
        if self.scale is not None and self.scale[0] >= self.scale[1]:
            raise ValueError("`scale` is the lowest and then the highest rating")
        if self.kind == "images" and self.pictures == "none":
            raise ValueError("kind `images` is nothing without pictures")
        if self.images is not None and self.pictures == "none":
            raise ValueError("`images` has no effect while no pictures are read")
        return self
