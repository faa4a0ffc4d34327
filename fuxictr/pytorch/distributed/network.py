"""The network between the machines of a job: which interface to use, and when a machine is gone."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

_INTERFACE_KEY = "GLOO_SOCKET_IFNAME"
# A silent machine is given up after 10 s and three probes 10 s apart, or 40 s without an answer.
_TCP_TIMEOUTS = {
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 40_000,
}


def choose_interface() -> None:
    """Lets gloo use the interface that leads to the first machine, in a job of several machines.

    By default gloo uses the one of the host's name, on many systems the loopback.
    GLOO_SOCKET_IFNAME stays where it is set.
    """
    is_alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    if is_alone or os.environ.get(_INTERFACE_KEY):
        return
    with suppress(OSError):
        address = local_address(os.environ["MASTER_ADDR"])
        found = [name for name, own in interfaces().items() if address in own]
        if found:
            os.environ[_INTERFACE_KEY] = found[0]


def local_address(host: str) -> str:
    """Returns this machine's IPv4 address on the route to a host (OSError: none); sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return probe.getsockname()[0]


def interfaces() -> dict[str, list[str]]:
    """Returns the IPv4 addresses of each network interface."""
    import psutil

    return {
        name: [found.address for found in addresses if found.family == socket.AF_INET]
        for name, addresses in psutil.net_if_addrs().items()
    }


def set_tcp_timeouts() -> int:
    """Makes every open connection of this process fail if the other machine falls silent.

    A process that dies closes its connections. A machine that loses power or its cable does not,
    and its peers would wait forever. A slow process is not affected, because its system answers.
    Returns the number of connections; 0 if the system does not list them.
    """
    count = 0
    with suppress(OSError):
        for entry in os.listdir("/proc/self/fd"):
            # An OSError: the descriptor is no socket, not connected, or not of TCP.
            with (
                suppress(OSError),
                socket.fromfd(int(entry), socket.AF_INET, socket.SOCK_STREAM) as link,
            ):
                link.getpeername()
                for name, value in _TCP_TIMEOUTS.items():
                    if hasattr(socket, name):
                        link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
                link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                count += 1
    return count
