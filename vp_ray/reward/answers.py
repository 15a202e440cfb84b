"""The bodies that the service answers with, as its OpenAPI document describes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from vp_ray.errors import VpRayError
from vp_ray.reward.failures import Kind, kind_of
from vp_ray.reward.scoring import Answer


class _Body(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class ErrorDetail(_Body):
    """What went wrong."""

    type: Kind
    """For programs."""
    message: str
    """For people: what, and what to do."""


class Failure(_Body):
    """A request that failed as a whole."""

    error: ErrorDetail


class Result(_Body):
    """One image: its scores, or the error that it alone made; never both."""

    scores: dict[str, float] | None = None
    """A number for each column that was asked for."""
    error: ErrorDetail | None = None


class ScoreResponse(_Body):
    """Scores in the order of the request's images."""

    model: str
    """The model that scored."""
    aspects: list[str]
    """The columns of `scores`: the model's aspects, and `overall` where it has one."""
    results: list[Result]


class ModelInfo(_Body):
    """A model that can be asked."""

    id: str
    aspects: list[str]
    """Its columns."""


class ModelList(_Body):
    """The models; the first is asked where a request names none."""

    models: list[ModelInfo]


class Health(_Body):
    """The service scores."""

    status: str = "ok"
    models: list[str]
    token_needed: bool
    """Whether requests must bring `Authorization: Bearer TOKEN`."""
    limits: dict[str, float] = Field(default_factory=dict)
    """What a request may hold, by the names of the settings."""


def error_body(error: VpRayError) -> dict[str, Any]:
    """`{"type", "message"}` of any error."""
    return {"type": kind_of(error), "message": str(error)}


def results(answer: Answer, chosen: Sequence[str]) -> list[dict[str, Any]]:
    """The `results` of an answer, only the chosen columns of it."""
    places = [(name, answer.columns.index(name)) for name in chosen]
    return [
        {"error": error_body(row)}
        if isinstance(row, VpRayError)
        else {"scores": {name: row[place] for name, place in places}}
        for row in answer.rows
    ]


_TEXTS: Final = {"type": "array", "items": {"type": "string"}}
_PROMPTS: Final = {**_TEXTS, "description": "One for all images, or one for each."}
_ASPECTS: Final = {**_TEXTS, "description": "Columns to answer with; all when left out."}
_MODEL: Final = {"type": "string", "description": "Id of a model; the first one when left out."}

REQUEST_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["images", "prompts"],
                "additionalProperties": False,
                "properties": {
                    "images": {**_TEXTS, "description": "PNG, JPEG or WebP files as base64, bare or as data URLs."},
                    "prompts": _PROMPTS,
                    "aspects": _ASPECTS,
                    "model": _MODEL,
                },
            }
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["images", "prompts"],
                "properties": {
                    "images": {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "description": "PNG, JPEG or WebP files, one part each.",
                    },
                    "prompts": _PROMPTS,
                    "aspects": _ASPECTS,
                    "model": _MODEL,
                },
            }
        },
    },
}
"""What `POST /v1/score` takes."""
