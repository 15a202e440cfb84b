"""Spot machines: tells Ray to drain this node when its cloud announces that the machine will be taken.

Nothing in Ray's launcher does that. A drained node gets no new work, and Ray Train moves its ranks; the rest is what
happens to any node that dies.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import ray

from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.errors import ClusterError

CloudName = Literal["aws", "gcp"]

METADATA: Final[dict[CloudName, str]] = {
    "aws": "http://169.254.169.254",
    "gcp": "http://metadata.google.internal",
}
_TIMEOUT_SECONDS: Final = 5.0
_GCP_NOTICE_SECONDS: Final = 30
"""What Compute Engine leaves a spot machine; its notice has no time in it."""
_TOKEN_SECONDS: Final = 300
_MOST_BYTES: Final = 4096


def _ask(url: str, headers: dict[str, str], method: str = "GET") -> str | None:
    """The answer of the metadata server, None where it says that there is nothing."""
    request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310 - the scheme is in METADATA
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as reply:  # noqa: S310  # nosec B310
            text: str = reply.read(_MOST_BYTES).decode()
            return text
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def seconds_left(cloud: CloudName, metadata: str) -> int | None:
    """Seconds until this machine is taken, or None while nobody means to.

    AWS: instance metadata service version 2, `spot/instance-action`. GCP: `instance/preempted`. Raises `OSError` when
    the metadata server does not answer.
    """
    if cloud == "gcp":
        told = _ask(f"{metadata}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
        return _GCP_NOTICE_SECONDS if told is not None and told.strip().upper() == "TRUE" else None
    asked = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
    token = _ask(f"{metadata}/latest/api/token", asked, "PUT") or ""
    told = _ask(f"{metadata}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    if told is None:
        return None
    until = datetime.datetime.fromisoformat(json.loads(told)["time"].replace("Z", "+00:00"))
    return max(0, int((until - datetime.datetime.now(datetime.UTC)).total_seconds()))


def watch(
    cloud: CloudName,
    address: str,
    metadata: str | None = None,
    node_id: str | None = None,
    every_seconds: float = 5.0,
    say: Callable[[str], None] = print,
) -> None:
    """Waits for the notice, then has the node of this machine drained, and returns.

    A metadata server that does not answer is asked again. Raises `ClusterError` when Ray does not take the request.
    """
    silent = False
    while True:
        try:
            left = seconds_left(cloud, metadata or METADATA[cloud])
            silent = False
        except (OSError, ValueError, KeyError) as error:
            left = None
            if not silent:
                say(f"the metadata server of {cloud} does not answer as it should ({error}); it is asked again")
            silent = True
        if left is not None:
            break
        time.sleep(every_seconds)
    say(f"{cloud} takes this machine in {left} s: the node is drained")
    drain(address, node_id or _own_node(address), left, f"spot notice of {cloud}")


def drain_now(address: str, seconds: int, node_id: str | None = None, say: Callable[[str], None] = print) -> None:
    """Has the node of this machine drained, which goes in so many seconds; raises `ClusterError` where Ray refuses."""
    say(f"this machine goes in {seconds} s: the node is drained")
    drain(address, node_id or _own_node(address), seconds, "the machine is being stopped")


def drain(address: str, node_id: str, seconds: int, message: str) -> None:
    """`ray drain-node` for preemption; raises `ClusterError` with Ray's words when it is refused."""
    words = [
        str(Path(sys.executable).with_name("ray")),
        *("drain-node", "--address", address, "--node-id", node_id, "--reason-message", message),
        *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--deadline-remaining-seconds", str(seconds)),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    if done.returncode:
        raise ClusterError(
            f"Ray did not drain the node {node_id} ({(done.stderr or done.stdout).strip().splitlines()[-1:]})",
            "Look at the address and at the token.",
            address,
        )


def _own_node(address: str) -> str:
    with connect(RaySettings(address=address)):
        found: str = ray.get_runtime_context().get_node_id()
        return found
