"""The ledger: rows survive torn lines, failures give way to answers, object stores get whole objects that grow."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from vp_ray.errors import StorageError
from vp_ray.judging.ledger import LedgerWriter, answered, asked_again, open_retry, read_ledger, register, spent_usd
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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vp_ray.judging.ledger._REMOTE_FLUSH_SECONDS", 0.02)


def in_turn(writer: LedgerWriter, names: list[str]) -> list[str]:
    """Appends rows one after the other; those of which `append` said that they are safe."""

    async def one_by_one() -> list[str]:
        safe = []
        for name in names:
            try:
                await writer.append(row(name))
            except StorageError:
                continue
            safe.append(name)
        return safe

    return asyncio.run(one_by_one())


@pytest.mark.usefixtures("quick")
def test_on_an_object_store_rows_share_objects_and_each_is_there_as_soon_as_it_is_safe(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder.at(f"{bucket}/ledger")
    write(folder, [row(f"j{n}") for n in range(20)])
    assert answered(folder) == {f"j{n}" for n in range(20)}
    assert len(folder.names()) == 1
    writer = LedgerWriter(folder)
    monkeypatch.setattr("vp_ray.judging.ledger._OBJECT_BYTES", 2 * len(folder.read_bytes(folder.names()[0])) // 18)
    for number in range(5):
        in_turn(writer, [f"k{number}"])
        assert f"k{number}" in answered(folder)
    assert [name[-12:] for name in folder.names() if writer.name in name] == [
        "000001.jsonl",
        "000002.jsonl",
        "000003.jsonl",
    ]
    assert spent_usd(folder) == 25 * 0.25


@pytest.mark.usefixtures("quick")
def test_after_a_write_that_failed_an_object_is_not_written_again(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder.at(f"{bucket}/failing")
    writer, write_bytes = LedgerWriter(folder), Folder.write_bytes
    failing = iter([False, True, False, False])

    def sometimes(self: Folder, name: str, data: bytes) -> None:
        # The store took it, and the answer to that was lost.
        write_bytes(self, name, data)
        if next(failing):
            raise StorageError("storage failed", where=name)

    monkeypatch.setattr(Folder, "write_bytes", sometimes)
    assert in_turn(writer, ["a", "b", "c", "d"]) == ["a", "c", "d"]
    assert answered(folder) == {"a", "b", "c", "d"}
    assert [len(folder.read_bytes(name).splitlines()) for name in folder.names()] == [2, 2]


@pytest.mark.usefixtures("quick")
def test_answers_are_found_where_a_listing_is_late(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vp_ray.judging.ledger._OBJECT_BYTES", 1)
    folder = Folder.at(f"{bucket}/late")
    known, listed = LedgerWriter(folder), LedgerWriter(folder)
    register(folder, [known.name])
    in_turn(known, ["a", "b"])
    in_turn(listed, ["c", "d"])
    first = [name for name in folder.listed() if name.startswith(listed.name)][:1]
    monkeypatch.setattr(Folder, "listed", lambda self: first)
    assert answered(folder) == {"a", "b", "c", "d"}
    register(folder, [listed.name, None])
    monkeypatch.setattr(Folder, "listed", lambda self: [])
    assert answered(folder) == {"a", "b", "c", "d"}


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
