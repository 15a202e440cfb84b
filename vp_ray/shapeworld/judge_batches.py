"""Files and batches as OpenAI's clients use them: a JSONL file in, a task that works through it, a JSONL file out.

All of it is kept in memory and ends with the server.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from vp_ray.ids import uniform_from
from vp_ray.shapeworld.judge_errors import RequestError
from vp_ray.shapeworld.judge_requests import sent_tokens
from vp_ray.shapeworld.judge_responses import as_chat
from vp_ray.shapeworld.judge_service import JudgeService
from vp_ray.shapeworld.judge_uploads import read_lines

_RESPONSES: Final = "/v1/responses"
ENDPOINTS: Final = ("/v1/chat/completions", _RESPONSES)
_WINDOW_SECONDS: Final = 24 * 3600


@dataclass(slots=True)
class _Batch:
    fields: dict[str, Any]
    number: int
    stopping: bool = False
    tokens: int = 0
    done: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"completed": [], "failed": []})

    @property
    def of_responses(self) -> bool:
        """Whether its lines are requests of the Responses API."""
        return bool(self.fields["endpoint"] == _RESPONSES)


def _missing(what: str, name: str) -> RequestError:
    return RequestError(f"No such {what}: {name}", "not_found", status=404)


class BatchDesk:
    """Takes files and batches in, works through them in the background and hands results out."""

    def __init__(self, service: JudgeService) -> None:
        self._service, self._settings = service, service.settings.batches
        self._seed = service.settings.seed
        self._numbers = count(1)
        self._life = uuid.uuid4().hex[:8]
        """Part of every id, since a judge that is started again counts from 1 again."""
        self._files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self._batches: dict[str, _Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add_file(self, name: str, purpose: str, data: bytes) -> dict[str, Any]:
        """The file object of what was uploaded or made; raises `RequestError` for what is too large."""
        if purpose == "batch" and len(data) > self._settings.max_megabytes * 1e6:
            message = f"The file has {len(data)} bytes, more than {self._settings.max_megabytes:g} MB"
            raise RequestError(message, "file_too_large", "file", 413)
        fields: dict[str, Any] = {
            "id": f"file-{self._life}{next(self._numbers)}",
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
        if not isinstance(asked, dict) or asked.get("endpoint") not in ENDPOINTS:
            raise RequestError(f"'endpoint' must be {' or '.join(ENDPOINTS)}", "invalid_value", "endpoint")
        if asked.get("completion_window") != "24h":
            raise RequestError("'completion_window' must be 24h", "invalid_value", "completion_window")
        _, data = self.file(str(asked.get("input_file_id")))
        now = int(time.time())
        number = next(self._numbers)
        fields: dict[str, Any] = {
            "id": f"batch_{self._life}{number}",
            "object": "batch",
            "endpoint": asked["endpoint"],
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
        batch = _Batch(fields, number)
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
        lines, errors = read_lines(data, batch.fields["endpoint"], self._settings)
        errors = errors or self._invalid(batch, lines)
        if errors:
            batch.fields.update(status="failed", failed_at=int(time.time()), errors={"object": "list", "data": errors})
            return
        batch.fields["request_counts"]["total"] = len(lines)
        if not batch.stopping:
            batch.fields.update(status="in_progress", in_progress_at=int(time.time()))
        await asyncio.sleep(self._settings.seconds)
        share = self._settings.expired_lines
        expired = {line["custom_id"] for line in lines if self._meets(share, "expiry", batch, line)}
        for line in lines:
            if batch.stopping:
                break
            if line["custom_id"] not in expired:
                await self._answer(batch, line)
        ending = "cancelled" if batch.stopping else "expired" if expired else "completed"
        if ending != "completed":
            self._set_apart(batch, lines, ending)
        if ending == "completed":
            batch.fields.update(status="finalizing", finalizing_at=int(time.time()))
            await asyncio.sleep(0)
        for outcome, key in (("completed", "output_file_id"), ("failed", "error_file_id")):
            if batch.done[outcome]:
                content = "".join(json.dumps(row) + "\n" for row in batch.done[outcome]).encode()
                made = self.add_file(f"{batch.fields['id']}_{outcome}.jsonl", "batch_output", content)
                batch.fields[key] = made["id"]
        batch.tokens = 0
        batch.fields.update({"status": ending, f"{ending}_at": int(time.time())})

    async def _answer(self, batch: _Batch, line: dict[str, Any]) -> None:
        reply = await self._service.batched(line["body"], batch.of_responses)
        outcome = "completed" if reply.status == 200 else "failed"
        response = {"status_code": reply.status, "request_id": f"req_{next(self._numbers)}", "body": reply.body}
        batch.done[outcome].append(self._row(line, response, None))
        batch.fields["request_counts"][outcome] += 1

    def _set_apart(self, batch: _Batch, lines: list[dict[str, Any]], ending: str) -> None:
        """Puts the lines that were not answered into the error file, as providers do."""
        done = {row["custom_id"] for rows in batch.done.values() for row in rows}
        error = {"code": f"batch_{ending}", "message": f"This request was not executed: the batch is {ending}."}
        batch.done["failed"] += [self._row(line, None, error) for line in lines if line["custom_id"] not in done]

    def _row(self, line: dict[str, Any], response: Any, error: Any) -> dict[str, Any]:
        name = f"batch_req_{next(self._numbers)}"
        return {"id": name, "custom_id": line["custom_id"], "response": response, "error": error}

    def _meets(self, share: float, what: str, batch: _Batch, line: dict[str, Any] | None = None) -> bool:
        own = "" if line is None else line["custom_id"]
        return share > 0 and uniform_from(self._seed, "judge-batch", what, batch.number, own) < share

    def _invalid(self, batch: _Batch, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the validation of a batch of well-formed lines finds: by chance, or since the queue is full."""
        if self._meets(self._settings.failed_batches, "batch", batch):
            return [{"code": "invalid_file", "line": None, "message": "The file could not be validated."}]
        faulty = [
            {"code": "invalid_request", "line": number, "message": "This line could not be validated."}
            for number, line in enumerate(lines, 1)
            if self._meets(self._settings.failed_lines, "line", batch, line)
        ]
        if faulty or not self._settings.queue_tokens:
            return faulty
        try:
            bodies = [as_chat(line["body"]) if batch.of_responses else line["body"] for line in lines]
            batch.tokens = sum(map(sent_tokens, bodies))
        except RequestError as error:
            return [{"code": error.code, "line": None, "message": error.message}]
        if sum(other.tokens for other in self._batches.values()) <= self._settings.queue_tokens:
            return []
        batch.tokens = 0
        message = f"Enqueued token limit reached: {self._settings.queue_tokens} tokens."
        return [{"code": "token_limit_exceeded", "line": None, "message": message}]
