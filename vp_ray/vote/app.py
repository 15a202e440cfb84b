"""The voting page's HTTP routes, for browsers on this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field

from vp_ray.errors import VpRayError
from vp_ray.pictures import ImageReader
from vp_ray.vote.box import BallotBox, Choice

HOST: Final = "127.0.0.1"
_TYPES: Final = {"vote.css": "text/css", "vote.js": "text/javascript"}
_SIGNS: Final = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"RIFF", "image/webp"))
_SECURE: Final = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class Vote(BaseModel):
    """The body of `POST /api/votes`."""

    model_config = ConfigDict(extra="forbid")

    rater: str = Field(max_length=40)
    ballot: str = Field(max_length=64)
    choice: Choice


class Rater(BaseModel):
    """The body of `POST /api/undo`."""

    model_config = ConfigDict(extra="forbid")

    rater: str = Field(max_length=40)


def create_app(box: BallotBox, images: ImageReader, title: str, question: str) -> FastAPI:
    """The page as an ASGI application. Nothing that it sends tells which model made which image."""
    app = FastAPI(title="vp_ray vote", openapi_url=None)
    environment = Environment(loader=PackageLoader("vp_ray.vote"), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("page.html").render(title=title, question=question)

    @app.middleware("http")
    async def only_this_machine(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        # A page of another site can make a browser ask here under its own name, or send a vote from its own origin.
        host = request.headers.get("host", "").rpartition(":")[0]
        origin = request.headers.get("origin")
        foreign = origin is not None and origin != f"http://{request.headers.get('host')}"
        if host not in (HOST, "localhost") or foreign:
            return Response("only for this machine", 403, _SECURE)
        response = await answer(request)
        response.headers.update(_SECURE)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.exception_handler(VpRayError)
    async def explain(_: Request, error: VpRayError) -> Response:
        return JSONResponse({"error": str(error)}, 400)

    @app.get("/")
    def index() -> Response:
        return Response(page, media_type="text/html; charset=utf-8")

    @app.get("/{name}.{ending}")
    def asset(name: str, ending: str) -> Response:
        file = f"{name}.{ending}"
        if file not in _TYPES:
            return Response("there is no such file", 404)
        return Response((files("vp_ray.vote") / "templates" / file).read_bytes(), media_type=_TYPES[file])

    @app.get("/api/next")
    def following(rater: str) -> dict[str, Any]:
        return _state(box, rater)

    @app.post("/api/votes")
    def vote(vote: Vote) -> dict[str, Any]:
        box.put(vote.rater, vote.ballot, vote.choice)
        return _state(box, vote.rater)

    @app.post("/api/undo")
    def undo(one: Rater) -> dict[str, Any]:
        box.undo(one.rater)
        return _state(box, one.rater)

    @app.get("/pictures/{rater}/{ballot}/{side}")
    def picture(rater: str, ballot: str, side: str) -> Response:
        found = box.ballot(rater, ballot)
        if side not in ("left", "right"):
            return Response("there is no such picture", 404)
        data = images.read(*(found.left if side == "left" else found.right).place)
        kind = next((kind for sign, kind in _SIGNS if data.startswith(sign)), "application/octet-stream")
        return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})

    return app


def _state(box: BallotBox, rater: str) -> dict[str, Any]:
    ballot, answered, total = box.next(rater)
    asked = None if ballot is None else {"id": ballot.ballot_id, "prompt": ballot.prompt}
    return {"ballot": asked, "answered": answered, "total": total}
