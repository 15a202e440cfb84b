"""The judge's HTTP routes."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse

from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_batches import BatchDesk
from vp_ray.shapeworld.judge_errors import RequestError
from vp_ray.shapeworld.judge_requests import MODELS
from vp_ray.shapeworld.judge_service import JudgeService, Reply
from vp_ray.shapeworld.judge_uploads import read_upload

HangUp = Callable[[Request], None]
"""Closes the connection that a request came by."""


def create_app(settings: JudgeSettings, hang_up: HangUp) -> FastAPI:
    """The judge as an ASGI application."""
    service = JudgeService(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="Shapeworld judge", openapi_url=None, lifespan=lifespan)

    @app.exception_handler(RequestError)
    async def show(_: Request, error: RequestError) -> Response:
        return JSONResponse(error.body(), error.status)

    def has_key(authorization: Annotated[str, Header()] = "") -> None:
        expected = f"Bearer {settings.api_key}"
        if settings.api_key and not secrets.compare_digest(authorization.encode(), expected.encode()):
            raise RequestError("Incorrect API key provided", "invalid_api_key", status=401)

    router = APIRouter(prefix="/v1", dependencies=[Depends(has_key)])
    _add_chat(router, service, hang_up)
    _add_files_and_batches(router, BatchDesk(service))
    app.include_router(router)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/stats")
    async def stats() -> dict[str, Any]:
        return service.stats.as_json()

    return app


def _add_chat(router: APIRouter, service: JudgeService, hang_up: HangUp) -> None:
    known = (*MODELS, *service.settings.models)

    @router.get("/models")
    async def models() -> dict[str, Any]:
        return _list([_model(name) for name in known])

    @router.get("/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        if name not in known:
            raise RequestError(f"The model '{name}' does not exist", "model_not_found", "model", 404)
        return _model(name)

    def shown(request: Request, reply: Reply) -> Response:
        if reply.status == 0:
            hang_up(request)
            return Response(status_code=500)
        return JSONResponse(reply.body, reply.status, reply.headers)

    @router.post("/chat/completions")
    async def chat(request: Request) -> Response:
        return shown(request, await service.chat(await request.body()))

    @router.post("/responses")
    async def responses(request: Request) -> Response:
        return shown(request, await service.respond(await request.body()))

    @router.post("/moderations")
    async def moderations(request: Request) -> Response:
        return shown(request, await service.moderate(await request.body()))


def _add_files_and_batches(router: APIRouter, desk: BatchDesk) -> None:
    @router.post("/files")
    async def upload(request: Request) -> dict[str, Any]:
        parts = read_upload(request.headers.get("content-type", ""), await request.body())
        if "file" not in parts or parts.get("purpose", ("", b""))[1] != b"batch":
            raise RequestError("The form needs 'file', and 'purpose' must be batch", "invalid_value", "purpose")
        name, data = parts["file"]
        return desk.add_file(name, "batch", data)

    @router.get("/files")
    async def files() -> dict[str, Any]:
        return _list(desk.files())

    @router.get("/files/{file_id}")
    async def file(file_id: str) -> dict[str, Any]:
        return desk.file(file_id)[0]

    @router.get("/files/{file_id}/content")
    async def content(file_id: str) -> Response:
        return Response(desk.file(file_id)[1], media_type="application/octet-stream")

    @router.delete("/files/{file_id}")
    async def delete(file_id: str) -> dict[str, Any]:
        desk.delete_file(file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    @router.post("/batches")
    async def start(request: Request) -> dict[str, Any]:
        try:
            asked = json.loads(await request.body())
        except ValueError:
            raise RequestError("The body is not valid JSON", "invalid_json") from None
        return desk.start(asked)

    @router.get("/batches")
    async def batches() -> dict[str, Any]:
        return _list(desk.batches())

    @router.get("/batches/{batch_id}")
    async def batch(batch_id: str) -> dict[str, Any]:
        return desk.batch(batch_id)

    @router.post("/batches/{batch_id}/cancel")
    async def cancel(batch_id: str) -> dict[str, Any]:
        return desk.cancel(batch_id)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "shapeworld"}


def _list(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": items, "has_more": False}
