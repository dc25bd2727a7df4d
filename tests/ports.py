"""Ports for servers that a test starts as processes. It opens none itself."""

import contextlib
import random
import socket

_GIVEN: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Below the range that the kernel gives to outgoing connections: one of those could take a port before its owner does. None
    is given twice."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports += [port] if port not in _GIVEN else []
            _GIVEN.add(port)
    return ports
