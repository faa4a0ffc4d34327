"""Which interface leads to the first machine, and connections that notice a silent one."""

from __future__ import annotations

import os
import socket

import pytest

from fuxictr.pytorch.distributed import network

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")


def test_the_interface_is_the_one_that_leads_to_the_first_machine(monkeypatch):
    held = network.interfaces()
    assert "127.0.0.1" in held["lo"]
    assert network.local_address("127.0.0.1") == "127.0.0.1"
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("GROUP_WORLD_SIZE", "1")
    network.choose_interface()
    assert "GLOO_SOCKET_IFNAME" not in os.environ  # one machine needs none
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    network.choose_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    network.choose_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "mine"


def test_a_host_that_nothing_is_known_of_changes_nothing(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "no-such-host.invalid")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    network.choose_interface()
    assert "GLOO_SOCKET_IFNAME" not in os.environ


def test_connections_are_watched_and_other_files_left_alone(tmp_path):
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as link,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        open(tmp_path / "file", "w"),
    ):
        accepted, _ = server.accept()
        with accepted:
            assert link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
            assert network.set_tcp_timeouts() >= 2
            for end in (link, accepted):
                assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
                assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 40_000
            link.sendall(b"still open")
            assert accepted.recv(10) == b"still open"
        assert other.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
