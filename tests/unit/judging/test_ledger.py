"""The ledger: rows survive torn lines, failures give way to answers, remote folders get an object a flush."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from vp_ray.judging.ledger import LedgerWriter, answered, asked_again, open_retry, read_ledger, spent_usd
from vp_ray.records import JUDGEMENTS
from vp_ray.storage import Folder


def row(name: str, status: str = "scored", cost: float | None = 0.25) -> dict[str, Any]:
    empty = dict.fromkeys(JUDGEMENTS.names)
    level = {"image_id": "a", "aspect": "fidelity", "level": 4, "rationale": 'a "sharp"\ncircle · ü'}
    return {**empty, "judgement_id": name, "status": status, "cost_usd": cost, "order": ["a"], "levels": [level]}


def write(folder: Folder, rows: list[dict[str, Any]]) -> None:
    async def all_rows() -> None:
        writer = LedgerWriter(folder)
        await asyncio.gather(*(writer.append(item) for item in rows))
        writer.close()

    asyncio.run(all_rows())


def test_what_is_appended_is_read_back_exactly(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    write(folder, [row(f"j{n}") for n in range(100)])
    write(folder, [row("k", cost=None)])
    table = read_ledger(folder)
    assert table.schema == JUDGEMENTS
    assert table.num_rows == 101
    assert table.slice(0, 1).to_pylist()[0]["levels"] == row("j0")["levels"]
    assert spent_usd(folder) == 25.0
    assert len(folder.names()) == 2


def test_a_torn_last_line_loses_that_answer_alone(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    write(folder, [row("a"), row("b"), row("c")])
    path = tmp_path / folder.names()[0]
    path.write_bytes(path.read_bytes()[:-40])
    assert answered(folder) == {"a", "b"}
    assert sorted(read_ledger(folder)["judgement_id"].to_pylist()) == ["a", "b"]


def test_failures_are_asked_again_and_an_answer_stands_before_and_after_them(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    write(folder, [row("a", "timed_out"), row("b", "given_up"), row("c", "refused")])
    assert answered(folder) == {"c"}
    write(folder, [row("a"), row("c")])
    write(folder, [row("a", "given_up")])
    table = read_ledger(folder)
    assert dict(zip(table["judgement_id"].to_pylist(), table["status"].to_pylist(), strict=True))["a"] == "scored"
    assert table.num_rows == 3


def test_an_empty_ledger_holds_nothing(tmp_path: Path) -> None:
    assert answered(Folder.at(tmp_path / "none")) == set()
    assert read_ledger(Folder.at(tmp_path / "none")).num_rows == 0


def test_on_a_remote_filesystem_a_flush_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vp_ray.judging.ledger._REMOTE_FLUSH_SECONDS", 0.05)
    folder = Folder.at("memory://ledger-test")
    write(folder, [row(f"j{n}") for n in range(20)])
    assert answered(folder) == {f"j{n}" for n in range(20)}
    assert len(folder.names()) == 1


def test_a_retry_asks_again_what_ended_so_until_it_is_answered_and_levels_stand(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)

    def write(name: str, *pairs: tuple[str, str]) -> None:
        lines = [json.dumps({**row(judgement), "status": status}) for judgement, status in pairs]
        folder.write_bytes(name, "".join(f"{line}\n" for line in lines).encode())

    write("m.jsonl", ("a", "refused"), ("b", "unreadable"), ("c", "scored"), ("d", "timed_out"))
    retry = open_retry(folder, ["refused", "unreadable"])
    assert retry == {"a": 1, "b": 1}
    assert asked_again(folder, retry) == set()
    # The names of files say nothing of when they were written.
    write("a.jsonl", ("a", "scored"), ("b", "unreadable"))
    assert asked_again(folder, retry) == {"a", "b"}
    statuses = dict(zip(*(read_ledger(folder)[name].to_pylist() for name in ("judgement_id", "status")), strict=True))
    assert statuses == {"a": "scored", "b": "unreadable", "c": "scored", "d": "timed_out"}
