"""A door with a key in front of a server on loopback that knows no keys: the open-weight judge under Ray Serve."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import aiohttp
import ray
from aiohttp import web

from vp_ray.errors import ClusterError, SettingsError, VpRayError

_MOST_BYTES: Final = 256 * 2**20
_ON_HEAD: Final = {"node:__internal_head__": 0.001}
_OF_ONE_HOP: Final = frozenset(
    {"authorization", "connection", "content-encoding", "content-length", "host", "keep-alive", "transfer-encoding"}
)
"""Headers that are not passed on: they are about this connection, or the key."""


class TokenGate:
    """Passes HTTP requests that bring the bearer token on to `target`, and refuses all others with 401."""

    def __init__(self, target: str, token_env: str) -> None:
        token = os.environ.get(token_env, "").strip()
        if not token:
            raise SettingsError(
                f"the environment variable {token_env} is not set on the head node", "Set it to a secret.", "open_judge"
            )
        self._target, self._expected = target, f"Bearer {token}".encode()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    async def open(self, host: str, port: int) -> int:
        """Listens from now on, and returns the port; 0 takes a free one. Raises `ClusterError` for one in use."""
        app = web.Application(client_max_size=_MOST_BYTES)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False)
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self.close()
            problem = f"it cannot be listened on ({error.strerror or error})"
            raise ClusterError(problem, "Set another open_judge.port.", f"{host}:{port}") from None
        found: int = self._runner.addresses[0][1]
        return found

    async def close(self) -> None:
        """Ends the connections."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _pass(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "").encode()
        if not secrets.compare_digest(given, self._expected):
            error = {"message": "this needs the cluster's token", "type": "invalid_request_error"}
            return web.json_response({"error": {**error, "code": "invalid_api_key"}}, status=401)
        assert self._session is not None  # noqa: S101 - opened before the first request
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_ONE_HOP}
        try:
            async with self._session.request(
                request.method, f"{self._target}{request.path_qs}", data=await request.read(), headers=headers
            ) as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OF_ONE_HOP}
                if "Content-Encoding" in answer.headers:
                    kept["Content-Encoding"] = answer.headers["Content-Encoding"]
                return web.Response(status=answer.status, body=await answer.read(), headers=kept)
        except aiohttp.ClientError as error:
            return web.json_response({"error": {"message": f"no answer behind the gate: {error}"}}, status=502)


@contextmanager
def running_gate(host: str, port: int, target: str, token_env: str) -> Iterator[int]:
    """The port of a gate on the head node, which ends with the context.

    Ray must be connected. Raises `SettingsError` where the head node has no token, `ClusterError` for a port in use.
    """
    gate: Any = ray.remote(num_cpus=0, resources=_ON_HEAD)(TokenGate).remote(target, token_env)
    try:
        try:
            found: int = ray.get(gate.open.remote(host, port))
        except (ray.exceptions.RayTaskError, ray.exceptions.RayActorError) as error:
            raise _purpose_of(error) from None
        yield found
    finally:
        ray.kill(gate)


def _purpose_of(error: Any) -> VpRayError:
    cause = getattr(error, "cause", None)
    if isinstance(cause, VpRayError):
        return cause
    if "is not set on the head node" in str(error):
        return SettingsError("the token's variable is not set on the head node", "Set it to a secret.", "open_judge")
    return ClusterError(f"the gate before the judge does not start ({error})", "Look at its log.", "open_judge")
