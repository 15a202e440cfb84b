"""The door before the open-weight judge: with the token all passes as it is, without it nothing does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from vp_ray.distributed.token_gate import TokenGate
from vp_ray.errors import ClusterError, SettingsError

TOKEN = "the-clusters-own-token"


async def behind(request: web.Request) -> web.Response:
    """Says what reached it."""
    told = {
        "path": request.path_qs,
        "method": request.method,
        "body": (await request.read()).decode(),
        "authorization": request.headers.get("Authorization"),
        "kind": request.headers.get("Content-Type"),
    }
    return web.json_response(told, status=418, headers={"x-ratelimit-remaining-requests": "7"})


def with_gate(monkeypatch: pytest.MonkeyPatch, use: Callable[[str], Awaitable[None]]) -> None:
    """Runs `use(url)` against a gate before a server that both listen on loopback."""
    monkeypatch.setenv("GATE_TOKEN", TOKEN)

    async def go() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", behind)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        gate = TokenGate(f"http://127.0.0.1:{runner.addresses[0][1]}", "GATE_TOKEN")
        try:
            await use(f"http://127.0.0.1:{await gate.open('127.0.0.1', 0)}")
        finally:
            await gate.close()
            await runner.cleanup()

    asyncio.run(go())


def test_a_request_with_the_token_arrives_as_it_was_sent_but_for_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(url: str) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/v1/chat?a=%20b", json={"n": 1}, headers=headers) as reply,
        ):
            assert reply.status == 418
            assert reply.headers["x-ratelimit-remaining-requests"] == "7"
            told = await reply.json()
        assert told == {
            "path": "/v1/chat?a=%20b",
            "method": "POST",
            "body": '{"n": 1}',
            "authorization": None,
            "kind": "application/json",
        }

    with_gate(monkeypatch, use)


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", TOKEN, f"bearer {TOKEN}", f"Bearer {TOKEN} "])
def test_a_request_without_the_token_does_not_arrive(monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
    async def use(url: str) -> None:
        headers = {} if given is None else {"Authorization": given}
        async with aiohttp.ClientSession() as session, session.get(f"{url}/v1/models", headers=headers) as reply:
            passes = given is not None and given.strip() == f"Bearer {TOKEN}"
            assert (reply.status == 418) == passes
            if not passes:
                assert reply.status == 401
                assert (await reply.json())["error"]["code"] == "invalid_api_key"

    with_gate(monkeypatch, use)


def test_without_a_token_or_on_a_port_in_use_there_is_no_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATE_TOKEN", raising=False)
    with pytest.raises(SettingsError, match="GATE_TOKEN is not set"):
        TokenGate("http://127.0.0.1:1", "GATE_TOKEN")

    async def use(url: str) -> None:
        second = TokenGate(url, "GATE_TOKEN")
        with pytest.raises(ClusterError, match="cannot be listened on"):
            await second.open("127.0.0.1", int(url.rpartition(":")[2]))

    with_gate(monkeypatch, use)
