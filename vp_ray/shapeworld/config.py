"""Settings of the embedded judge: how noisy, how biased, how quick and how unreliable it is."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from vp_ray.addresses import is_loopback
from vp_ray.config import Settings


class FaultSettings(Settings):
    """Shares of requests that go wrong, drawn from the seed and the running number of the request."""

    rate_limited: float = Field(0.0, ge=0, le=1)
    """429 although no limit is reached, and without Retry-After."""
    server_error: float = Field(0.0, ge=0, le=1)
    """500."""
    reset: float = Field(0.0, ge=0, le=1)
    """The connection is closed without a reply."""
    timeout: float = Field(0.0, ge=0, le=1)
    """No reply for `timeout_seconds`, then the connection is closed."""
    malformed: float = Field(0.0, ge=0, le=1)
    """A reply whose content is not JSON."""
    truncated: float = Field(0.0, ge=0, le=1)
    """A reply cut in the middle, with finish_reason `length`."""
    refused: float = Field(0.0, ge=0, le=1)
    """A reply with a refusal instead of content."""
    content_filtered: float = Field(0.0, ge=0, le=1)
    """A reply without content, with finish_reason `content_filter`."""
    timeout_seconds: float = Field(600.0, gt=0)
    """How long a request that times out is kept waiting."""

    @model_validator(mode="after")
    def _at_most_all(self) -> FaultSettings:
        if sum(self.shares().values()) > 1:
            raise ValueError("the shares of the faults add up to more than 1")
        return self

    def shares(self) -> dict[str, float]:
        """The share of each fault by name, in a fixed order."""
        return {name: value for name, value in self if name != "timeout_seconds"}


class BatchDeskSettings(Settings):
    """How the judge serves `/v1/batches`, and what goes wrong there on purpose."""

    seconds: float = Field(0.0, ge=0)
    """How long a batch is under way before its lines are answered."""
    max_requests: int = Field(50_000, ge=1)
    """A batch with more lines fails."""
    max_megabytes: float = Field(200.0, gt=0)
    """A larger file (in 10^6 bytes) is refused."""
    queue_tokens: int = Field(0, ge=0)
    """Tokens of all batches under way together; one that would pass it fails with `token_limit_exceeded`. 0 is none."""
    expired_lines: float = Field(0.0, ge=0, le=1)
    """Share of the lines that are not answered before their batch expires."""
    failed_batches: float = Field(0.0, ge=0, le=1)
    """Share of the batches that fail their validation as a whole."""
    failed_lines: float = Field(0.0, ge=0, le=1)
    """Share of the lines that fail the validation of their batch."""


class JudgeModelSettings(Settings):
    """A further model of the embedded judge, for comparisons of annotators; it errs by itself."""

    noise: float = Field(0.5, ge=0)
    """Standard deviation of a judgement's error, in levels."""
    position_bias: tuple[float, ...] = ()
    """Levels that it adds by place in the message."""
    patch_pixels: int | None = Field(None, ge=1)
    """It bills an image at a token for each square of so many pixels, as patch-based models do; 85 tokens an image
    where it is not set."""


class JudgeSettings(Settings):
    """The embedded judge, an OpenAI-compatible server."""

    operational: ClassVar[frozenset[str]] = frozenset({"batches", "api_key"})

    host: str = "127.0.0.1"
    """Address that the server listens on; beyond loopback an `api_key` is needed."""
    port: int = Field(0, ge=0, le=65535)
    """Port that the server listens on; 0 takes any that is free."""
    api_key: str = ""
    """Key that requests must carry; empty lets everyone in."""
    seed: int = 0
    """Fixes noise, latency and faults."""
    canned: bool = False
    """Answers the middle level for everything without looking at pixels: to measure clients, not judgements."""
    noise: float = Field(0.5, ge=0)
    """Standard deviation of a judgement's error, in levels, for `shapeworld-judge`."""
    position_bias: tuple[float, ...] = ()
    """Levels that `shapeworld-judge` adds by place in the message; places beyond the list get none."""
    models: dict[str, JudgeModelSettings] = Field(default_factory=dict)
    """Further models by name, beside `shapeworld-judge` and the noise-free `shapeworld-oracle`."""
    latency_seconds: float = Field(0.0, ge=0)
    """Median time until the reply; 0 replies as soon as it can."""
    latency_spread: float = Field(0.0, ge=0)
    """Standard deviation of the logarithm of that time."""
    requests_per_minute: int = Field(0, ge=0)
    """Limit on requests; 0 is none."""
    tokens_per_minute: int = Field(0, ge=0)
    """Limit on tokens, counted as those of the request and the most that it lets the reply have; 0 is none."""
    limiter: Literal["sliding_window", "gcra"] = "sliding_window"
    """How limits are kept: by what was let in during the last `burst_seconds`, or by a steady drain of it."""
    burst_seconds: float = Field(60.0, gt=0, le=60)
    """How many seconds' worth of a limit may come at once."""
    quota_requests: int = Field(0, ge=0)
    """Requests after which the account's quota is used up (429 `insufficient_quota`); 0 is none."""
    faults: FaultSettings = FaultSettings()
    """What goes wrong on purpose."""
    batches: BatchDeskSettings = BatchDeskSettings()
    """Files and batches."""

    @model_validator(mode="after")
    def _no_setting_without_effect(self) -> JudgeSettings:
        if self.latency_spread > 0 and self.latency_seconds == 0:
            raise ValueError("latency_spread has no effect while latency_seconds is 0")
        return self

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> JudgeSettings:
        if not self.api_key and not is_loopback(self.host):
            raise ValueError(f"a judge that other machines can reach (host {self.host}) needs an api_key")
        return self
