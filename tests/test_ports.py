"""Ports that are given to tests stay theirs."""

from __future__ import annotations

import socket
import sys

import pytest

from tests.ports import free_ports


@pytest.mark.skipif(sys.platform != "linux", reason="a bound port cannot be listened on")
def test_a_given_port_is_nobody_elses_and_can_be_listened_on_again_and_again() -> None:
    port = int(free_ports(1)[0])
    for _ in range(2):
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))  # as free_ports() of another run tries it
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)) as server:
            socket.create_connection(server.getsockname()).close()
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("127.0.0.1", port))


def test_no_port_is_given_twice() -> None:
    ports = free_ports(50)
    assert len({*ports, *free_ports(50)}) == 100
