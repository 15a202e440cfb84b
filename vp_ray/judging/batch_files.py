"""The JSONL files of `/v1/batches`: lines within a file's limits, and what the lines of an answer say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vp_ray.judging.client import Failure, Reply, batch_reply, batch_request
from vp_ray.judging.config import BatchSettings, ModelSettings

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
            yield row["custom_id"], batch_reply(settings, int(response.get("status_code") or 0), response["body"])
        elif isinstance(error, Mapping) and error.get("code") in _UNFINISHED:
            yield row["custom_id"], None
        else:
            yield row["custom_id"], Failure("server", f"the batch says: {json.dumps(error)}")
