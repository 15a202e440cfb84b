"""What is known of batches, on an object store whose listings are late."""

from __future__ import annotations

import pytest

from vp_ray.judging.batch_book import BatchBook, BatchRecord
from vp_ray.storage import Folder


def record(name: str, annotator: str, created_at: float) -> BatchRecord:
    return BatchRecord(name, annotator, f"file-{name}", created_at, 0.5, {f"{name}-key": 10}, {})


def test_each_annotators_batches_are_found_without_a_listing(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder.at(f"{bucket}/batches")
    books = {name: BatchBook(folder, name) for name in ("one", "other")}
    books["one"].write(record("b", "one", 2.0))
    books["one"].write(record("a", "one", 1.0))
    books["other"].write(record("c", "other", 3.0))
    books["one"].write(record("d", "one", 4.0))
    books["one"].forget(books["one"].records[-1])
    for shown in ([], [*folder.listed(), "d.json"]):
        monkeypatch.setattr(Folder, "listed", lambda self, shown=shown: shown)
        assert [found.name for found in BatchBook(folder, "one").records] == ["a", "b"]
        assert [found.name for found in BatchBook(folder, "other").records] == ["c"]
        assert BatchBook(folder, "one").under_way() == {"a-key", "b-key"}
