"""The service's HTTP routes as an ASGI application; who scores is handed in, so that it runs without a cluster too."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from numpy.typing import NDArray
from starlette.exceptions import HTTPException

from vp_ray import __version__
from vp_ray.errors import VpRayError
from vp_ray.reward import answers
from vp_ray.reward.bodies import ScoreRequest, prompt_failure, read_body
from vp_ray.reward.config import ServiceLimits
from vp_ray.reward.failures import STATUS, Kind, ServiceError, kind_of
from vp_ray.reward.images import decoded
from vp_ray.reward.page import add_pages
from vp_ray.reward.scoring import Answer

_LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")


class Backend(Protocol):
    """Who scores: models by id, the first one by default."""

    @property
    def models(self) -> tuple[str, ...]:
        """Ids."""
        ...

    async def columns(self, model: str) -> tuple[str, ...]:
        """The columns of the model's answers."""
        ...

    async def score(self, model: str, images: Sequence[NDArray[np.uint8]], prompts: Sequence[str]) -> Answer:
        """A row for each image; raises `ServiceError` when none can be had."""
        ...


class Watch(Protocol):
    """Who counts."""

    def request(self, path: str, model: str, images: int, seconds: float, failures: Mapping[str, int]) -> None:
        """One request is through, with so many failures by kind."""
        ...


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask."""

    token: str | None = None
    """What `Authorization: Bearer` must bring."""
    loopback_only: bool = True
    """Whether the service listens on loopback; then a page of another site must not reach it under its own name."""

    def check_host(self, host: str) -> None:
        """Raises `ServiceError` for a request that was sent to another name than this machine's."""
        if self.loopback_only and re.sub(r":\d+$", "", host.lower()) not in _LOOPBACK_NAMES:
            raise ServiceError(Kind.FORBIDDEN_HOST, "this service is for its own machine", "Ask 127.0.0.1.")

    def check_token(self, credentials: HTTPAuthorizationCredentials | None) -> None:
        """Raises `ServiceError` for a request without the token; the comparison takes the same time for any other."""
        given = credentials.credentials if credentials is not None else ""
        if self.token is not None and not secrets.compare_digest(given.encode(), self.token.encode()):
            raise ServiceError(Kind.UNAUTHORIZED, "the token is missing or wrong", "Send Authorization: Bearer ...")


def create_api(
    backend: Backend, limits: ServiceLimits, access: Access, watch: Watch, decoding_threads: int = 2
) -> FastAPI:
    """The application: `POST /v1/score`, `GET /v1/models`, `/health`, `/openapi.json`, `/docs` and a page at `/`."""
    app = FastAPI(
        title="VP-Score",
        version=__version__,
        description="How well images fit their prompts: a number for each aspect, or an error that says why not.",
        docs_url=None,
        redoc_url=None,
    )
    _add_errors(app)
    bearer = HTTPBearer(auto_error=False)

    def is_here(request: Request) -> None:
        access.check_host(request.headers.get("host", ""))

    def may_ask(credentials: HTTPAuthorizationCredentials | None = Depends(bearer)) -> None:
        access.check_token(credentials)

    desk = _Desk(backend, limits, watch, ThreadPoolExecutor(decoding_threads, "decode"))
    failures: dict[int | str, dict[str, Any]] = {
        code: {"model": answers.Failure} for code in sorted({*STATUS.values()} - {405, 422})
    }

    @app.post(
        "/v1/score",
        response_model=answers.ScoreResponse,
        responses=failures,
        openapi_extra={"requestBody": answers.REQUEST_BODY},
        dependencies=[Depends(is_here), Depends(may_ask)],
        summary="Scores images against prompts",
    )
    async def score(request: Request) -> Response:
        """Results keep the order of the images. An image that cannot be scored has an error in its place."""
        return JSONResponse(await desk.score(request))

    @app.get("/v1/models", dependencies=[Depends(is_here), Depends(may_ask)], summary="Lists the models")
    async def models() -> answers.ModelList:
        found = [answers.ModelInfo(id=name, aspects=[*await backend.columns(name)]) for name in backend.models]
        return answers.ModelList(models=found)

    @app.get("/health", dependencies=[Depends(is_here)], responses={503: {"model": answers.Failure}})
    async def health() -> answers.Health:
        """Answers once a replica scores; says nothing that needs the token."""
        await backend.columns(backend.models[0])
        return answers.Health(
            models=[*backend.models], token_needed=access.token is not None, limits=limits.model_dump()
        )

    add_pages(app, Depends(is_here))
    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ServiceError)
    async def failed(_: Request, error: ServiceError) -> Response:
        headers = {"WWW-Authenticate": "Bearer"} if error.kind is Kind.UNAUTHORIZED else {}
        if error.kind in (Kind.OVERLOADED, Kind.LOST):
            headers["Retry-After"] = "1"
        if error.kind is Kind.TOO_LARGE:
            headers["Connection"] = "close"
        return JSONResponse({"error": answers.error_body(error)}, STATUS[error.kind], headers)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        kind = Kind.METHOD_NOT_ALLOWED if error.status_code == 405 else Kind.NOT_FOUND
        return await failed(request, ServiceError(kind, "there is nothing here", "POST to /v1/score; see /docs."))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        problem = f"the service failed ({type(error).__name__})"
        return await failed(request, ServiceError(Kind.INTERNAL, problem, "Look at its log."))


class _Desk:
    """Takes one request from its bytes to its answer."""

    def __init__(self, backend: Backend, limits: ServiceLimits, watch: Watch, threads: ThreadPoolExecutor) -> None:
        self._backend, self._limits, self._watch, self._threads = backend, limits, watch, threads

    async def score(self, http: Request) -> dict[str, Any]:
        began = time.monotonic()
        model, images, failures = self._backend.models[0], 0, Counter[str]()
        try:
            body = await self._body(http)
            request = await self._off(read_body, http.headers.get("content-type", ""), body, self._limits)
            del body
            model, images = self._model(request), len(request.images)
            answer = await self._answer(model, request)
            failures.update(kind_of(row) for row in answer.rows if isinstance(row, VpRayError))
            chosen = request.aspects or answer.columns
            return {"model": model, "aspects": [*chosen], "results": answers.results(answer, chosen)}
        except ServiceError as failure:
            failures[failure.kind] += max(images, 1)
            raise
        finally:
            self._watch.request("http", model, images, time.monotonic() - began, failures)

    async def _body(self, http: Request) -> bytes:
        most = int(self._limits.body_megabytes * 1e6)
        refusal = ServiceError(
            Kind.TOO_LARGE, f"the body is longer than {self._limits.body_megabytes:g} MB", "Send several requests."
        )
        if http.headers.get("content-length", "0").isdigit() and int(http.headers.get("content-length", "0")) > most:
            raise refusal
        chunks, length = [], 0
        async for chunk in http.stream():
            length += len(chunk)
            if length > most:
                raise refusal
            chunks.append(chunk)
        return b"".join(chunks)

    def _model(self, request: ScoreRequest) -> str:
        model = request.model if request.model is not None else self._backend.models[0]
        if model not in self._backend.models:
            names = ", ".join(self._backend.models)
            raise ServiceError(Kind.UNKNOWN_MODEL, f"there is no model '{model[:80]}'", f"These are: {names}.")
        return model

    async def _answer(self, model: str, request: ScoreRequest) -> Answer:
        """A row for each image of the request; those that cannot be read are not sent to the model."""
        columns: tuple[str, ...] = ()
        if request.aspects is not None:
            columns = await self._backend.columns(model)
            unknown = [name for name in request.aspects if name not in columns]
            if unknown:
                problem = f"the model '{model}' has no aspect '{unknown[0][:80]}'"
                raise ServiceError(Kind.UNKNOWN_ASPECT, problem, f"It has: {', '.join(columns)}.")
        rows = await self._off(self._read, request)
        good = [place for place, row in enumerate(rows) if not isinstance(row, VpRayError)]
        if not good:
            return Answer(columns or await self._backend.columns(model), tuple(rows))
        answer = await self._backend.score(model, [rows[place] for place in good], [request.prompts[p] for p in good])
        for place, row in zip(good, answer.rows, strict=True):
            rows[place] = row
        return Answer(answer.columns, tuple(rows))

    def _read(self, request: ScoreRequest) -> list[Any]:
        images = decoded(request.images, self._limits)
        long = (prompt_failure(prompt, self._limits) for prompt in request.prompts)
        return [failure or image for image, failure in zip(images, long, strict=True)]

    async def _off(self, call: Any, *arguments: Any) -> Any:
        """The result of a call on a decoding thread, while this one goes on taking requests."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
