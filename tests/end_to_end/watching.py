"""A real Prometheus that scrapes a cluster by the file that Ray writes for it, as `clusters/grafana/README.md` says."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.end_to_end.ray_nodes import Nodes, free_ports

PROGRAM = shutil.which("prometheus")
_START_SECONDS = 30.0
_STEP_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Watch:
    """A Prometheus on loopback, and since when it scrapes."""

    url: str
    since: float

    def series(self, query: str) -> list[dict[str, Any]]:
        """What the query gave from the start until now, as a Grafana panel asks for it: labels and values."""
        return self._get("query_range", query=query, start=self.since, end=time.time(), step=_STEP_SECONDS)["result"]  # type: ignore[no-any-return]

    def targets_up(self) -> int:
        """How many nodes were scraped at least once."""
        return len(self.series("max_over_time(up[10s]) == 1"))

    def _get(self, what: str, **words: object) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(words)}", timeout=30) as reply:  # noqa: S310
            found: dict[str, Any] = json.load(reply)["data"]
            return found


@contextmanager
def prometheus(nodes: Nodes) -> Iterator[Watch]:
    """Scrapes the nodes until the end of the context."""
    assert PROGRAM is not None
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    configuration = nodes.scratch / "session_latest" / "metrics" / "prometheus" / "prometheus.yml"
    words = [
        f"--config.file={configuration}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--storage.tsdb.path={nodes.scratch / 'prometheus'}",
    ]
    since = time.time()
    with (nodes.scratch / "prometheus.txt").open("wb") as log:
        program = subprocess.Popen([PROGRAM, *words], stdout=log, stderr=log)
        try:
            while not _is_ready(url):
                said = (nodes.scratch / "prometheus.txt").read_text()
                assert program.poll() is None, said
                assert time.time() < since + _START_SECONDS, said
                time.sleep(0.2)
            yield Watch(url, since)
        finally:
            program.terminate()
            program.wait(30)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as reply:  # noqa: S310
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def queries_of(dashboard: Mapping[str, Any], run: str) -> dict[str, list[str]]:
    """By panel: its queries with Grafana's variables filled in, for one run and all of its stages."""
    interval = "60s"
    filled: dict[str, list[str]] = {}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$run", run).replace("$stage", ".*")
            filled.setdefault(panel["title"], []).append(query.replace("$__rate_interval", interval))
    return filled
