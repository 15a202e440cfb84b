"""The one gate of a cluster: a named actor that keeps the books of `judging.gate`, and never waits itself.

Every judge in every actor of every run reserves its departures here, so that one limit holds for each account over the
whole cluster. The actor lives as long as the cluster. When it dies it is started again: with a pause, a slow start and
an empty window, which means without a burst; with the money that runs have spent, and what they sent within a day where
that is limited, read from their ledgers; and with what each caller then says it has under way.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, TypeVar

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from vp_ray.distributed.metrics import GateMetrics
from vp_ray.errors import ClusterError
from vp_ray.judging.accounts import Account
from vp_ray.judging.client import account_name
from vp_ray.judging.config import ModelSettings
from vp_ray.judging.daily import sent_within_a_day
from vp_ray.judging.gate import Gate
from vp_ray.judging.grants import Grant, Settled, Stated, Wanted
from vp_ray.judging.ledger import spent_usd
from vp_ray.logs import Origin, origin
from vp_ray.storage import Folder

ACTOR: Final = "vp_ray-limiter"
NAMESPACE: Final = "vp_ray"
_ATTEMPTS: Final = 20
_QUIET_SECONDS: Final = 1.5
"""A gate whose forerunner died lets nothing pass for so long: whoever waits asks again within a second, and by then the
gate knows what is under way."""
_SHOW_SECONDS: Final = 1.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Books:
    """What the actor must know of a run; travels to every judge, so that any can tell it to an actor that forgot."""

    run: str
    annotators: tuple[ModelSettings, ...]
    account_of: Mapping[str, str] = field(default_factory=dict)
    """The account of each annotator by name; those that are left out are accounts of this run alone."""
    budget_usd: float | None = None
    ledger: Folder | None = None
    works_for: Origin = field(default_factory=origin)


@dataclass(frozen=True, slots=True)
class Memory:
    """What one caller knows of one annotator that a gate forgets when it dies."""

    under_way: Mapping[int, float]
    """Leases of requests that were not reported back, with the money held for each."""
    stated: Stated
    """The limits that the server stated last."""


class _LimiterActor:
    """The books of all runs, in a process of their own; None is the answer to a caller that is not known here."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._gates: dict[str, Gate] = {}
        self._callers: dict[str, set[str]] = {}
        # Leases of a gate that died still come back, and must not be taken for those of this one.
        self._numbers = count(time.time_ns())
        self._recalled: set[str] = set()
        self._metrics, self._shown = GateMetrics(), 0.0
        self._works_for: dict[str, Origin] = {}
        died = ray.get_runtime_context().was_current_actor_reconstructed
        self._quiet_until = time.monotonic() + _QUIET_SECONDS if died else 0.0

    def open(self, books: Books, caller: str = "", memory: Mapping[str, Memory] | None = None) -> None:
        if books.run not in self._gates:
            self._open(books)
        self._callers[books.run].add(caller)
        for annotator, known in (memory or {}).items():
            self._gates[books.run].adopt(annotator, known.under_way, known.stated)

    def _open(self, books: Books) -> None:
        spent = spent_usd(books.ledger) if books.ledger is not None and books.budget_usd is not None else 0.0
        accounts = {item.name: books.account_of.get(item.name, f"{books.run}/{item.name}") for item in books.annotators}
        self._works_for[books.run] = books.works_for
        self._gates[books.run] = Gate(
            books.annotators,
            books.budget_usd,
            spent,
            accounts=self._accounts,
            account_of=accounts,
            quiet_seconds=max(0.0, self._quiet_until - time.monotonic()),
            numbers=self._numbers,
        )
        self._callers[books.run] = set()
        by_day = any(item.requests_per_day or item.tokens_per_day for item in books.annotators)
        if by_day and books.ledger is not None and books.ledger.uri not in self._recalled:
            self._recalled.add(books.ledger.uri)
            self._gates[books.run].recall(sent_within_a_day(books.ledger, time.time()))

    def reserve(self, run: str, caller: str, annotator: str, wanted: Sequence[Wanted]) -> list[Grant] | None:
        return self._gates[run].reserve(annotator, wanted) if caller in self._callers.get(run, ()) else None

    def settle(self, run: str, caller: str, annotator: str, settled: Settled) -> bool | None:
        if caller not in self._callers.get(run, ()):
            return None
        self._gates[run].settle(annotator, settled)
        if time.monotonic() - self._shown > _SHOW_SECONDS:
            self._shown = time.monotonic()
            for name, gate in self._gates.items():
                self._metrics.show(self._works_for[name], gate)
        return True

    def figures(self, run: str) -> dict[str, Any] | None:
        return self._gates[run].figures() if run in self._gates else None

    def close(self, run: str) -> None:
        if run in self._gates:
            gate = self._gates.pop(run)
            self._metrics.show(self._works_for.pop(run), gate)
            gate.close()
            del self._callers[run]
            for name in [name for name in self._accounts if name.startswith(f"{run}/")]:
                del self._accounts[name]


def _actor() -> ActorHandle:
    on_head = {"node:__internal_head__": 0.001}
    remote = ray.remote(num_cpus=0, resources=on_head, max_restarts=-1, max_task_retries=-1)(_LimiterActor)
    return remote.options(name=ACTOR, namespace=NAMESPACE, lifetime="detached", get_if_exists=True).remote()


class ClusterLimiter:
    """The cluster's gate, from any actor of it; satisfies `judging.gate.RateLimiter`.

    Calls wait while the actor is being started again, and start it where it is gone; they raise `ClusterError` when
    that does not help.
    """

    def __init__(self, books: Books) -> None:
        self._books, self._caller = books, uuid.uuid4().hex
        self._actor = _actor()
        self._under_way: dict[str, dict[int, float]] = {item.name: {} for item in books.annotators}
        self._stated: dict[str, Stated] = {}

    def _memory(self) -> dict[str, Memory]:
        stated = dict(self._stated)
        return {name: Memory(dict(held), stated.get(name, (None, None))) for name, held in self._under_way.items()}

    async def _call(self, ask: Callable[[], Any]) -> Any:
        for _ in range(_ATTEMPTS):
            with suppress(RayActorError):
                answer = await ask()
                if answer is not None:
                    return answer
                await self._actor.open.remote(self._books, self._caller, self._memory())
                continue
            self._actor = _actor()
        raise ClusterError("the cluster's rate limiter cannot be kept up", "Start the run again: it goes on from here.")

    async def reserve(self, annotator: str, wanted: Sequence[Wanted]) -> list[Grant]:
        """What the gate says to each request, in order."""
        run, caller, asked = self._books.run, self._caller, list(wanted)
        grants: list[Grant] = await self._call(lambda: self._actor.reserve.remote(run, caller, annotator, asked))
        self._under_way[annotator] |= {
            grant.lease: one.cost_usd for grant, one in zip(grants, asked, strict=True) if grant.lease
        }
        return grants

    async def settle(self, annotator: str, settled: Settled) -> None:
        """Reports what became of a request; an answer that is there is never lost because the gate is gone."""
        self._under_way[annotator].pop(settled.lease, None)
        if settled.stated_requests is not None or settled.stated_tokens is not None:
            self._stated[annotator] = (settled.stated_requests, settled.stated_tokens)
        run, caller = self._books.run, self._caller
        with suppress(ClusterError):
            await self._call(lambda: self._actor.settle.remote(run, caller, annotator, settled))

    def figures(self) -> dict[str, Any]:
        """The gate's figures for each annotator of the run, since the actor was last started."""
        return ray.get(self._actor.figures.remote(self._books.run)) or {}


@contextmanager
def running_limiter(
    annotators: Sequence[ModelSettings],
    budget_usd: float | None = None,
    ledger: Folder | None = None,
    urls: Mapping[str, str] | None = None,
) -> Iterator[Books]:
    """A run's books at the cluster's gate, closed with the context; it starts while others do.

    `urls` holds the address of each annotator by name: annotators of the same address, key and model share limits.
    """
    accounts = {item.name: account_name(item, urls[item.name]) for item in annotators} if urls else {}
    books = Books(uuid.uuid4().hex[:12], tuple(annotators), accounts, budget_usd, ledger)
    actor = _actor()
    actor.open.remote(books)
    try:
        yield books
    finally:
        actor.close.remote(books.run)
