"""Settings of an annotator: which model, where, how fast, and what it is sent."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, TypeVar

from pydantic import Field, model_validator

from vp_ray.config import Settings

OrderCount = Literal[1, 2, 4]
Mode = Literal["listwise", "pointwise", "pairwise"]
"""What an annotator is shown and asked: levels of all images of a group, levels of one image, or the better of two."""

EMBEDDED: Final = "embedded"
"""The `base_url` of the pipeline's own judge, whose address is known only when it runs."""

CLUSTER: Final = "cluster"
"""The `base_url` of the open-weight judge that the run starts in its cluster."""


class PriceSettings(Settings):
    """What an annotator charges, where the package's dated table is wrong or does not know it."""

    request_usd_per_million_tokens: float = Field(ge=0)
    """Price of a million tokens that are sent."""
    reply_usd_per_million_tokens: float = Field(ge=0)
    """Price of a million tokens that come back."""
    cached_usd_per_million_tokens: float | None = Field(None, ge=0)
    """Price of a million sent tokens that were cached; the full price where it is not set."""
    batch_share: float | None = Field(None, ge=0, le=1)
    """What batches cost as a share of that; the table's half where it is not set."""


class ModelSettings(Settings):
    """A model behind an OpenAI-compatible address: where it is and how fast it may be asked."""

    operational: ClassVar[frozenset[str]] = frozenset(
        {
            "api_key_env",
            "account",
            "api",
            "azure_api_version",
            "base_url",
            "concurrency",
            "limits",
            "max_attempts",
            "price",
            "requests_per_day",
            "requests_per_minute",
            "timeout_seconds",
            "tokens_per_day",
            "tokens_per_minute",
            "total_concurrency",
        }
    )

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The name in tables and reports."""
    model: str
    """The model's name at its address."""
    base_url: str = "https://api.openai.com/v1"
    """The address; `embedded` is the judge that the pipeline starts itself, and `cluster` the open-weight judge that it
    starts in the cluster (the job's section `open_judge`)."""
    api: Literal["auto", "chat", "responses"] = "auto"
    """Chat completions or OpenAI's Responses API; `auto` takes the latter for models that need it."""
    azure_api_version: str | None = None
    """Set for an Azure resource that wants `api-version`: base_url is then its endpoint, and model the deployment."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; set it on every node. Not set: no key is sent."""
    requests_per_minute: int = Field(500, ge=0)
    """Requests a minute over the whole cluster: a first guess, or a limit of your own (`limits`). 0 paces nothing."""
    tokens_per_minute: int = Field(0, ge=0)
    """Tokens a minute over the whole cluster, replies included; 0 where only requests are limited."""
    limits: Literal["learn", "cap"] = "learn"
    """`learn`: the two limits above are first guesses, which the server's `x-ratelimit` headers replace, or its 429s
    and its latency correct. `cap`: they are never passed, whatever the server states."""
    requests_per_day: int = Field(0, ge=0)
    """Requests in any 24 hours; 0 is no limit."""
    tokens_per_day: int = Field(0, ge=0)
    """Tokens in any 24 hours, replies included; 0 is no limit."""
    account: str | None = None
    """Annotators of the same account share its limits, in all runs of a cluster. Not set: those of the same address,
    key and model, since providers limit each model by itself."""
    concurrency: int = Field(16, ge=1, le=500)
    """Requests that one actor has under way at once."""
    total_concurrency: int = Field(0, ge=0)
    """Requests that the whole cluster has under way at once; 0 is no limit but what the server's latency suggests."""
    timeout_seconds: float = Field(120.0, gt=0)
    """How long one attempt may take."""
    max_attempts: int = Field(6, ge=1, le=20)
    """Attempts for one answer, before it is given up."""
    temperature: float | None = Field(0.0, ge=0, le=2)
    """Sampling temperature; null leaves it out, as reasoning models demand."""
    max_reply_tokens: int = Field(1500, ge=16)
    """Upper limit of a reply; also what the budget holds back for it."""
    price: PriceSettings | None = None
    """Overrides the price table; give zeros for a model of your own."""

    @model_validator(mode="after")
    def _key_goes_somewhere(self) -> ModelSettings:
        own = self.base_url in (EMBEDDED, CLUSTER)
        if own and self.api_key_env is not None:
            raise ValueError(f"api_key_env has no effect with base_url '{self.base_url}'")
        if not own and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url must be '{EMBEDDED}', '{CLUSTER}' or start with http:// or https://")
        return self


class BatchSettings(Settings):
    """How judgements go through `/v1/batches`: at half the price, within a day."""

    operational: ClassVar[frozenset[str]] = frozenset({"requests_per_file", "megabytes_per_file", "poll_seconds"})

    requests_per_file: int = Field(50_000, ge=1, le=50_000)
    """Most requests of one file; providers take no more than 50,000."""
    megabytes_per_file: float = Field(200.0, gt=0, le=200)
    """Most megabytes (10^6 bytes) of one file; providers take no more than 200."""
    poll_seconds: float = Field(30.0, gt=0)
    """How often the state of the batches is asked."""


Model = TypeVar("Model", bound=ModelSettings)


class AnnotatorSettings(ModelSettings):
    """One multimodal model that judges images, and how it is sent them."""

    operational: ClassVar[frozenset[str]] = ModelSettings.operational | {"batch", "image_tokens"}

    image_side_pixels: int = Field(512, ge=16, le=4096)
    """Images with a longer side are shrunk to this before they are sent."""
    image_format: Literal["png", "jpeg"] = "png"
    """How images are sent; JPEG is smaller and has artefacts that a judge may mind."""
    jpeg_quality: int = Field(92, ge=1, le=100)
    """Quality of images that are sent as JPEG."""
    detail: Literal["low", "high", "auto"] = "auto"
    """The `detail` of OpenAI's image parts."""
    image_tokens: int | None = Field(None, ge=0)
    """Tokens of one image as it is sent, where the package's dated table is wrong or does not know the model."""
    batch: BatchSettings | None = None
    """Set, if only to `{}`: judgements are sent as batches, within a day and at half the price."""

    @model_validator(mode="after")
    def _batches_are_served(self) -> AnnotatorSettings:
        if self.batch is not None and self.azure_api_version is not None:
            raise ValueError("batch needs an address without azure_api_version: base_url is then .../openai/v1")
        if self.batch is not None and self.base_url == CLUSTER:
            raise ValueError("the open-weight judge of the cluster serves no batches: take batch out")
        return self


def pointed_at(settings: Model, url: str, token_env: str | None = None) -> Model:
    """The settings of a model of the cluster's own at its address; it costs nothing unless a price is set."""
    price = settings.price or PriceSettings(request_usd_per_million_tokens=0, reply_usd_per_million_tokens=0)
    key = settings.api_key_env or token_env
    return settings.model_copy(update={"base_url": url, "price": price, "api_key_env": key})
