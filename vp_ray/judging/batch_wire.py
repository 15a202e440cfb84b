"""Files and batches at a provider; what fails for a while is waited out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import openai
from openai.types import Batch

from vp_ray.errors import AnnotatorError
from vp_ray.judging.batch_book import BatchRecord
from vp_ray.judging.bodies import uses_responses
from vp_ray.judging.config import EMBEDDED, AnnotatorSettings
from vp_ray.judging.interview import backoff_seconds
from vp_ray.judging.outcomes import Failure, failure_of_error

Result = TypeVar("Result")

_TRANSFER_SECONDS: Final = 1800.0
_PATIENCE_SECONDS: Final = 600.0
"""How long a provider may fail to answer before the run stops; its batches go on."""
_LOOK_BACK_SECONDS: Final = 3600.0
"""How far clocks may be apart."""


class BatchWire:
    """One annotator's account, for one event loop."""

    def __init__(self, settings: AnnotatorSettings, client: openai.AsyncOpenAI) -> None:
        self._settings, self._client = settings, client

    async def upload(self, name: str, content: bytes) -> str:
        """The id of a file of requests."""
        uploaded = await self._patiently(
            lambda: self._client.files.create(
                file=(f"{name}.jsonl", content), purpose="batch", timeout=_TRANSFER_SECONDS
            )
        )
        return uploaded.id

    async def create(self, record: BatchRecord, recovering: bool) -> Batch | None:
        """The batch of an uploaded file, created once: where that is not sure, the provider is asked for it first.

        None where the provider knows neither the file nor a batch of it.
        """
        unsure = recovering

        async def create() -> Batch:
            nonlocal unsure
            found = await self._find(record) if unsure else None
            unsure = True
            if found is not None:
                return found
            return await self._client.batches.create(
                input_file_id=record.input_file_id,
                endpoint="/v1/responses" if uses_responses(self._settings) else "/v1/chat/completions",
                completion_window="24h",
                metadata={"vp_ray": record.name},
            )

        try:
            return await self._patiently(create, missing_is_known=recovering)
        except openai.NotFoundError:
            return None

    async def _find(self, record: BatchRecord) -> Batch | None:
        async for batch in self._client.batches.list(limit=100):
            if batch.input_file_id == record.input_file_id:
                return batch
            if batch.created_at < record.created_at - _LOOK_BACK_SECONDS:
                return None
        return None

    async def retrieve(self, record: BatchRecord) -> Batch | None:
        """The state of a batch; None where it ended with the embedded judge of a run before.

        Raises `AnnotatorError` where any other provider does not know it.
        """
        try:
            return await self._patiently(lambda: self._client.batches.retrieve(record.batch_id or ""), True)
        except openai.NotFoundError:
            if self._settings.base_url == EMBEDDED:
                return None
            raise AnnotatorError(
                f"the annotator '{self._settings.name}' knows no batch '{record.batch_id}' at {self._client.base_url}",
                f"Use the key of the project that sent it; if it is lost, delete batches/{record.name}.json of the "
                "stage, and its requests are asked again.",
            ) from None

    async def content(self, file_id: str) -> bytes:
        """The bytes of a file."""
        answer = await self._patiently(lambda: self._client.files.content(file_id, timeout=_TRANSFER_SECONDS))
        return answer.content

    async def delete(self, file_id: str) -> None:
        """Removes a file, since providers limit what an account stores; it does not matter when that fails."""
        with suppress(openai.OpenAIError):
            await self._client.files.delete(file_id)

    async def _patiently(self, call: Callable[[], Awaitable[Result]], missing_is_known: bool = False) -> Result:
        """The result of a call; faults of the network and of the server are waited out, for ten minutes.

        Raises `AnnotatorError`, and openai's `NotFoundError` where `missing_is_known`.
        """
        started, attempt = time.monotonic(), 0
        while True:
            try:
                return await call()
            except openai.APIStatusError as error:
                if missing_is_known and isinstance(error, openai.NotFoundError):
                    raise
                failure = failure_of_error(error, self._settings)
            except openai.APIConnectionError as error:
                failure = Failure("connection", str(error.__cause__ or error))
            if failure.error is not None:
                raise failure.error
            if failure.failing in ("rejected", "filtered") or time.monotonic() - started > _PATIENCE_SECONDS:
                raise AnnotatorError(
                    f"the annotator '{self._settings.name}' does not serve batches at {self._client.base_url} "
                    f"({failure.detail})",
                    "Nothing is lost, and batches that it has go on: start the run again when that is mended.",
                )
            await asyncio.sleep(failure.retry_after_seconds or backoff_seconds(self._settings.name, attempt))
            attempt += 1
