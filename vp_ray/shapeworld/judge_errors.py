"""Errors of the judge as OpenAI's clients know them."""

from __future__ import annotations

from typing import Any


class RequestError(Exception):
    """A request that is answered with an HTTP error in the body that OpenAI's clients know."""

    def __init__(self, message: str, code: str, param: str | None = None, status: int = 400) -> None:
        super().__init__(message, code, param, status)
        self.message, self.code, self.param, self.status = message, code, param, status

    @property
    def kind(self) -> str:
        """The `type` of the error body."""
        if self.status == 429:
            return "insufficient_quota" if self.code == "insufficient_quota" else "requests"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def body(self) -> dict[str, Any]:
        """`{"error": {message, type, param, code}}`."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}
