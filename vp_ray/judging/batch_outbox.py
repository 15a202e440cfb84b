"""What is to be sent in batches, as files of lines that keep the provider's limits and the budget."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic

from vp_ray.errors import InputError
from vp_ray.judging.batch_files import RequestFile, request_line
from vp_ray.judging.config import AnnotatorSettings, BatchSettings
from vp_ray.judging.courses import Course, Registrar
from vp_ray.judging.forms import Form, Item
from vp_ray.judging.image_tokens import TokenEstimate
from vp_ray.judging.prices import Price
from vp_ray.records import Status

_LINES_AT_ONCE: Final = 32


@dataclass(slots=True)
class Filled:
    """A file that is ready to be sent."""

    file: RequestFile
    tokens: dict[str, int] = field(default_factory=dict)
    """Our estimate of each request's tokens, by key."""
    estimate_usd: float = 0.0
    """The most that it can cost."""
    short: bool = False
    """Whether it ends where the money does."""


class Outbox(Generic[Item]):
    """The requests of one annotator that are in no batch; `filled` gives what was asked under a key, with its pictures.

    `reject` takes the rows of those that cannot be sent.
    """

    def __init__(
        self,
        settings: AnnotatorSettings,
        form: Form[Item],
        registrar: Registrar[Item],
        estimate: TokenEstimate,
        price: Price,
        filled: Callable[[str], Item],
        reject: Callable[[list[dict[str, Any]]], Awaitable[None]],
    ) -> None:
        self._settings, self._form, self._registrar, self._filled = settings, form, registrar, filled
        self._estimate, self._price, self._reject = estimate, price, reject
        self.pending: deque[str] = deque()
        """Keys of what is to be sent."""
        self.courses: dict[str, Course] = {}
        """What these have been through, where that is anything."""
        self._ready: deque[tuple[str, bytes, int]] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be sent."""
        return not self.pending and not self._ready

    async def fill(self, left_usd: float, most_requests: int) -> Filled:
        """The next file, of at most so many requests and dollars."""
        made = Filled(RequestFile(self._settings.batch or BatchSettings(), most_requests))
        while (line := await self._next_line()) is not None:
            key, data, tokens = line
            cost = self._most_usd(tokens)
            if made.estimate_usd + cost > left_usd:
                made.short = True
                break
            if not made.file.takes(data):
                break
            self._ready.popleft()
            made.file.add(data)
            made.tokens[key] = tokens
            made.estimate_usd += cost
        return made

    async def _next_line(self) -> tuple[str, bytes, int] | None:
        while not self._ready and self.pending:
            keys = [self.pending.popleft() for _ in range(min(_LINES_AT_ONCE, len(self.pending)))]
            lines = await asyncio.gather(*(asyncio.to_thread(self._line, key) for key in keys))
            unfit: list[dict[str, Any]] = []
            for key, (item, line) in zip(keys, lines, strict=True):
                if isinstance(line, InputError):
                    course = self.courses.get(key, Course())
                    unfit.append(self._registrar.row(item, course, Status.REJECTED, error=str(line)))
                else:
                    self._ready.append((key, *line))
            await self._reject(unfit)
        return self._ready[0] if self._ready else None

    def _line(self, key: str) -> tuple[Item, tuple[bytes, int] | InputError]:
        item = self._filled(key)
        try:
            message = self._form.message(item)
        except InputError as error:
            return item, error
        said = self.courses.get(key, Course()).said
        data = request_line(self._settings, key, [*message.messages, *said], message.response_format)
        return item, (data, message.tokens)

    def _most_usd(self, tokens: int) -> float:
        asked = round(tokens * max(1.0, self._estimate.ratio))
        return self._price.cost_usd(asked, self._settings.max_reply_tokens)
