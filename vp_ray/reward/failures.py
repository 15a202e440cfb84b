"""Why a request, or one image of it, got no score: a kind that programs can tell apart, and a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from vp_ray.errors import InputError, VpRayError


class Kind(StrEnum):
    """The `type` of an error in an answer."""

    INVALID_REQUEST = "invalid_request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN_HOST = "forbidden_host"
    NOT_FOUND = "not_found"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_ASPECT = "unknown_aspect"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNREADABLE_IMAGE = "unreadable_image"
    IMAGE_TOO_LARGE = "image_too_large"
    PROMPT_TOO_LONG = "prompt_too_long"
    NOT_FINITE = "not_finite"
    OVERLOADED = "overloaded"
    TIMED_OUT = "timed_out"
    LOST = "replica_lost"
    FAILED = "model_failed"
    INTERNAL = "internal_error"


STATUS: Final[Mapping[Kind, int]] = MappingProxyType(
    {
        Kind.INVALID_REQUEST: 400,
        Kind.UNAUTHORIZED: 401,
        Kind.FORBIDDEN_HOST: 403,
        Kind.NOT_FOUND: 404,
        Kind.UNKNOWN_MODEL: 404,
        Kind.UNKNOWN_ASPECT: 400,
        Kind.METHOD_NOT_ALLOWED: 405,
        Kind.TOO_LARGE: 413,
        Kind.UNSUPPORTED_MEDIA_TYPE: 415,
        Kind.UNREADABLE_IMAGE: 422,
        Kind.IMAGE_TOO_LARGE: 422,
        Kind.PROMPT_TOO_LONG: 422,
        Kind.NOT_FINITE: 500,
        Kind.OVERLOADED: 503,
        Kind.TIMED_OUT: 504,
        Kind.LOST: 503,
        Kind.FAILED: 500,
        Kind.INTERNAL: 500,
    }
)
"""HTTP status of a request that fails as a whole with this kind."""


class ServiceError(VpRayError):
    """A failure of a known kind."""

    def __init__(self, kind: Kind, problem: str, remedy: str = "", where: str = "") -> None:
        super().__init__(problem, remedy, where)
        self.kind = kind
        self.args = (kind, problem, remedy, where)


def kind_of(error: VpRayError) -> Kind:
    """The kind of any error of this package."""
    if isinstance(error, ServiceError):
        return error.kind
    return Kind.INVALID_REQUEST if isinstance(error, InputError) else Kind.FAILED
