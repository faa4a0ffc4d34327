"""What the network between the machines of a job needs told: which interface, and who is gone."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

_INTERFACE_KEY = "GLOO_SOCKET_IFNAME"
_SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface
# A machine that falls silent is given up after 10 s and three questions 10 s apart, or where it
# confirms nothing for 40 s that was sent to it.
_SILENCE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 40_000}


def choose_interface() -> None:
    """Lets gloo take the interface that leads to the first machine, on a job of several machines.

    By itself it takes the one of the host's name, which many systems have on their loopback. What
    GLOO_SOCKET_IFNAME says goes first.
    """
    is_alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    if is_alone or os.environ.get(_INTERFACE_KEY):
        return
    with suppress(OSError):
        address = own_address(os.environ["MASTER_ADDR"])
        found = [name for name, held in interfaces() if held == address]
        if found:
            os.environ[_INTERFACE_KEY] = found[0]


def own_address(host: str) -> str:
    """Returns the IPv4 address of this machine in the eyes of a host; sends nothing.

    Raises:
        OSError: no way leads there.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return probe.getsockname()[0]


def interfaces() -> Iterator[tuple[str, str]]:
    """Yields name and IPv4 address of each interface that has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                request = struct.pack("256s", name.encode())
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
                yield name, socket.inet_ntoa(answer[20:24])


def notice_silence() -> int:
    """Makes every connection of this process fail where the other machine falls silent.

    A process that dies closes its connections; a machine that loses power or its cable does not,
    and whoever waits for it would wait on. A slow one is not concerned: its system answers.

    Returns:
        The number of connections; 0 where the system does not list them.
    """
    count = 0
    with suppress(OSError):
        for entry in os.listdir("/proc/self/fd"):
            with suppress(OSError, ValueError):
                count += _watch(int(entry))
    return count


def _watch(number: int) -> bool:
    if not os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
        return False
    with socket.socket(fileno=os.dup(number)) as link:
        is_tcp = link.family in (socket.AF_INET, socket.AF_INET6) and link.type & socket.SOCK_STREAM
        if not is_tcp:
            return False
        link.getpeername()  # an OSError where it only listens
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _SILENCE.items():
            if hasattr(socket, name):
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return True
