"""The JSONL files of `/v1/batches`: lines within a file's limits, and what the lines of an answer say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from vp_ray.judging.bodies import batch_request, uses_responses
from vp_ray.judging.config import BatchSettings, ModelSettings
from vp_ray.judging.outcomes import (
    KEPT_CHARACTERS,
    Failure,
    Reply,
    failure_of_status,
    from_answer,
    understood,
)

_UNFINISHED: Final = frozenset({"batch_expired", "batch_cancelled"})
"""Codes of lines that nobody worked on."""


def request_line(
    settings: ModelSettings, key: str, messages: list[dict[str, Any]], response_format: dict[str, Any]
) -> bytes:
    """One request of a batch, named by its key."""
    url, body = batch_request(settings, messages, response_format)
    line = {"custom_id": key, "method": "POST", "url": url, "body": body}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@dataclass(slots=True)
class RequestFile:
    """A file that grows line by line until it is full."""

    limits: BatchSettings
    most_requests: int
    lines: list[bytes] = field(default_factory=list)
    size: int = 0

    def takes(self, line: bytes) -> bool:
        """Whether one more line fits; a first line always does, since nothing could be sent without it."""
        fits = self.size + len(line) <= self.limits.megabytes_per_file * 1e6
        return not self.lines or (fits and len(self.lines) < self.most_requests)

    def add(self, line: bytes) -> None:
        """Appends a line."""
        self.lines.append(line)
        self.size += len(line)


def read_output(settings: ModelSettings, content: bytes) -> Iterator[tuple[str, Reply | Failure | None]]:
    """Each line's key and what came back: a reply, a failure, or None where the batch ended before it was asked.

    Lines that cannot be read are left out: their requests count as not asked.
    """
    for line in content.split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if not isinstance(row, Mapping) or not isinstance(row.get("custom_id"), str):
            continue
        response, error = row.get("response"), row.get("error")
        if isinstance(response, Mapping) and isinstance(response.get("body"), Mapping):
            yield row["custom_id"], _outcome(settings, int(response.get("status_code") or 0), response["body"])
        elif isinstance(error, Mapping) and error.get("code") in _UNFINISHED:
            yield row["custom_id"], None
        else:
            yield row["custom_id"], Failure("server", f"the batch says: {json.dumps(error)}")


def _outcome(settings: ModelSettings, status: int, body: Mapping[str, Any]) -> Reply | Failure:
    """What a line of a batch's output says, in the words of a live answer."""
    said = json.dumps(body, ensure_ascii=False)[:KEPT_CHARACTERS]
    if status != 200:
        found = body.get("error")
        error: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
        code, message = str(error.get("code") or ""), str(error.get("message") or body)
        return failure_of_status(status, code, message, {}, said, settings)
    # As the client reads live answers: what a newer version of it would have in them may lack.
    kind = Response if uses_responses(settings) else ChatCompletion
    reply = understood(from_answer, kind.construct(**body), {})
    return reply or Failure("server", "the answer is not what was asked for", reply=said)
