"""Where this process listens."""

from __future__ import annotations

import psutil


def addresses_of_port(port: int) -> set[str]:
    """The addresses at which this process takes connections on a port."""
    found = psutil.Process().net_connections("tcp")
    return {item.laddr.ip for item in found if item.status == psutil.CONN_LISTEN and item.laddr.port == port}
