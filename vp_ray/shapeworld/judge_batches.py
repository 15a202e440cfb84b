"""Files and batches as OpenAI's clients use them: a JSONL file in, a task that works through it, a JSONL file out.

All of it is kept in memory and ends with the server.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from email import policy
from email.parser import BytesParser
from itertools import count
from typing import Any, Final

from vp_ray.shapeworld.judge_errors import RequestError
from vp_ray.shapeworld.judge_service import JudgeService

ENDPOINT: Final = "/v1/chat/completions"
MAX_LINES: Final = 50_000
_WINDOW_SECONDS: Final = 24 * 3600


@dataclass(slots=True)
class _Batch:
    fields: dict[str, Any]
    stopping: bool = False
    done: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"completed": [], "failed": []})


def read_upload(content_type: str, body: bytes) -> dict[str, tuple[str, bytes]]:
    """The file name (empty for plain fields) and content of each part of a multipart form, by the part's name."""
    message = BytesParser(policy=policy.HTTP).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    if not message.is_multipart():
        raise RequestError("The body is not a multipart form", "invalid_form")
    parts: dict[str, tuple[str, bytes]] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        data = part.get_payload(decode=True)
        parts[str(name)] = (part.get_filename() or "", data if isinstance(data, bytes) else b"")
    return parts


def _missing(what: str, name: str) -> RequestError:
    return RequestError(f"No such {what}: {name}", "not_found", status=404)


class BatchDesk:
    """Takes files and batches in, works through them in the background and hands results out."""

    def __init__(self, service: JudgeService) -> None:
        self._service = service
        self._numbers = count(1)
        self._files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self._batches: dict[str, _Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add_file(self, name: str, purpose: str, data: bytes) -> dict[str, Any]:
        """The file object of what was uploaded or made."""
        fields: dict[str, Any] = {
            "id": f"file-{next(self._numbers)}",
            "object": "file",
            "bytes": len(data),
            "created_at": int(time.time()),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        self._files[fields["id"]] = (fields, data)
        return fields

    def files(self) -> list[dict[str, Any]]:
        """All file objects, newest first."""
        return [fields for fields, _ in reversed(self._files.values())]

    def file(self, file_id: str) -> tuple[dict[str, Any], bytes]:
        """A file object and its content; raises `RequestError` (404) for one that is not there."""
        if file_id not in self._files:
            raise _missing("file", file_id)
        return self._files[file_id]

    def delete_file(self, file_id: str) -> None:
        """Forgets a file."""
        self.file(file_id)
        del self._files[file_id]

    def start(self, asked: Any) -> dict[str, Any]:
        """The batch object of a batch whose work begins now; raises `RequestError` for what cannot be one."""
        if not isinstance(asked, dict) or asked.get("endpoint") != ENDPOINT:
            raise RequestError(f"'endpoint' must be {ENDPOINT}", "invalid_value", "endpoint")
        if asked.get("completion_window") != "24h":
            raise RequestError("'completion_window' must be 24h", "invalid_value", "completion_window")
        _, data = self.file(str(asked.get("input_file_id")))
        now = int(time.time())
        fields: dict[str, Any] = {
            "id": f"batch_{next(self._numbers)}",
            "object": "batch",
            "endpoint": ENDPOINT,
            "input_file_id": asked["input_file_id"],
            "completion_window": "24h",
            "metadata": asked.get("metadata"),
            "status": "validating",
            "created_at": now,
            "expires_at": now + _WINDOW_SECONDS,
            "output_file_id": None,
            "error_file_id": None,
            "errors": None,
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        }
        batch = _Batch(fields)
        self._batches[str(fields["id"])] = batch
        task = asyncio.get_running_loop().create_task(self._work(batch, data))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return fields

    def batches(self) -> list[dict[str, Any]]:
        """All batch objects, newest first."""
        return [batch.fields for batch in reversed(self._batches.values())]

    def batch(self, batch_id: str) -> dict[str, Any]:
        """A batch object; raises `RequestError` (404) for one that is not there."""
        if batch_id not in self._batches:
            raise _missing("batch", batch_id)
        return self._batches[batch_id].fields

    def cancel(self, batch_id: str) -> dict[str, Any]:
        """The batch object after it was told to stop; what it has answered by then is handed out."""
        fields = self.batch(batch_id)
        if fields["status"] in ("validating", "in_progress"):
            self._batches[batch_id].stopping = True
            fields.update(status="cancelling", cancelling_at=int(time.time()))
        return fields

    async def _work(self, batch: _Batch, data: bytes) -> None:
        lines, errors = _read_lines(data)
        if errors:
            batch.fields.update(status="failed", failed_at=int(time.time()), errors={"object": "list", "data": errors})
            return
        counts = batch.fields["request_counts"]
        counts["total"] = len(lines)
        if not batch.stopping:
            batch.fields.update(status="in_progress", in_progress_at=int(time.time()))
        for line in lines:
            if batch.stopping:
                break
            reply = await self._service.batched(line["body"])
            outcome = "completed" if reply.status == 200 else "failed"
            response = {"status_code": reply.status, "request_id": f"req_{next(self._numbers)}", "body": reply.body}
            row = {"id": f"batch_req_{next(self._numbers)}", "custom_id": line["custom_id"], "response": response}
            batch.done[outcome].append({**row, "error": None})
            counts[outcome] += 1
        for outcome, key in (("completed", "output_file_id"), ("failed", "error_file_id")):
            if batch.done[outcome]:
                content = "".join(json.dumps(row) + "\n" for row in batch.done[outcome]).encode()
                batch.fields[key] = self.add_file(f"{batch.fields['id']}_{outcome}.jsonl", "batch_output", content)[
                    "id"
                ]
        ending = "cancelled" if batch.stopping else "completed"
        batch.fields.update({"status": ending, f"{ending}_at": int(time.time())})


def _read_lines(data: bytes) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The requests of a batch file, and what is wrong with it line by line."""
    lines: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, text in enumerate(data.splitlines(), 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            errors.append({"code": "invalid_json_line", "line": number, "message": "This line is not valid JSON."})
            continue
        match line:
            case {"custom_id": str(name), "method": "POST", "url": str(url), "body": dict()} if url == ENDPOINT:
                if name in seen:
                    message = f"The custom_id {name!r} is there twice."
                    errors.append({"code": "duplicate_custom_id", "line": number, "message": message})
                seen.add(name)
                lines.append(line)
            case _:
                message = f"A line needs custom_id, method POST, url {ENDPOINT} and body."
                errors.append({"code": "invalid_request", "line": number, "message": message})
    if not lines and not errors:
        errors.append({"code": "empty_file", "line": None, "message": "The file has no requests."})
    if len(lines) > MAX_LINES:
        message = f"The file has {len(lines)} requests, more than {MAX_LINES}."
        errors.append({"code": "too_many_requests", "line": None, "message": message})
    return lines, errors
