"""The voting page in a real browser, and whom its server answers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.browser import CHROMIUM, browser
from tests.listening import addresses_of_port
from vp_ray.storage import RunFolder
from vp_ray.vote.box import read_votes
from vp_ray.vote.job import serving

Evaluated = Callable[..., RunFolder]
SHOWN = "!document.querySelector('#ballot').hidden && !document.querySelector('.waiting')"


def ask(address: str, method: str, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
    where = urlsplit(address).netloc
    connection = http.client.HTTPConnection(where, timeout=20)
    told = {"Host": where, "Content-Type": "application/json", **headers}
    connection.request(method, path, None if body is None else json.dumps(body), told)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")
def test_a_person_votes_by_keys_and_clicks_and_hostile_text_stays_text(evaluated: Evaluated) -> None:
    run = evaluated(2, hostile=True)
    with serving(run, "overall") as address, browser() as tab:
        tab.look(1200, 850)
        tab.open(address)
        tab.run("document.querySelector('[name=rater]').value = 'ann'; document.querySelector('form button').click()")
        tab.until(SHOWN)
        seen = set()
        for key in ("ArrowLeft", "ArrowDown", "s"):
            before = tab.run("document.querySelector('#count').textContent")
            seen.add(tab.run("document.querySelector('#prompt').textContent"))
            tab.press(key)
            tab.until(f"{SHOWN} && document.querySelector('#count').textContent !== {json.dumps(before)}")
        tab.run("document.querySelector('#undo').click()")
        tab.until(f"{SHOWN} && document.querySelector('#count').textContent === '2 of 4'")
        tab.run("document.querySelector('[data-choice=right]').click()")
        tab.until(f"{SHOWN} && document.querySelector('#count').textContent === '3 of 4'")
        tab.press("ArrowRight")
        tab.until("!document.querySelector('#end').hidden")
        assert tab.complaints == []
        assert tab.run("document.title") == "Vote: run"
        assert all(url.startswith((address, "data:")) for url in tab.requests)
    assert any("<script>" in text for text in seen)
    assert [row["preferred_a"] for row in read_votes(run).to_pylist()] == [1.0, 0.5, 0.0, 0.0]


def test_nothing_that_is_sent_tells_which_image_is_whose(evaluated: Evaluated) -> None:
    run = evaluated(1)
    with serving(run, "overall") as address:
        assert addresses_of_port(urlsplit(address).port or 0) == {"127.0.0.1"}
        status, body = ask(address, "GET", "/api/next?rater=ann")
        assert status == 200
        assert sorted(json.loads(body)["ballot"]) == ["id", "prompt"]
        assert b"tuned" not in body
        assert b"base" not in body


def test_other_sites_and_broken_votes_are_refused(evaluated: Evaluated) -> None:
    run = evaluated(1)
    with serving(run, "overall") as address:
        ballot = json.loads(ask(address, "GET", "/api/next?rater=ann")[1])["ballot"]["id"]
        vote = {"rater": "ann", "ballot": ballot, "choice": "left"}
        assert ask(address, "POST", "/api/votes", vote, Host="evil.example:80")[0] == 403
        assert ask(address, "POST", "/api/votes", vote, Origin="http://evil.example")[0] == 403
        assert ask(address, "POST", "/api/votes", {**vote, "choice": "both"})[0] == 422
        status, body = ask(address, "POST", "/api/votes", {**vote, "ballot": "none"})
        assert status == 400
        assert "there is no such ballot" in json.loads(body)["error"]
        assert ask(address, "GET", "/pictures/ann/none/left")[0] == 400
        assert ask(address, "GET", f"/pictures/ann/{ballot}/middle")[0] == 404
        assert read_votes(run).num_rows == 0
        status, body = ask(address, "GET", f"/pictures/ann/{ballot}/left")
        assert status == 200
        assert body.startswith(b"\x89PNG")
