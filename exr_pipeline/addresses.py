"""Addresses to listen at: which are of this machine alone, how a URL has them, whether one is free.

Belongs here: what all that listen have in common. Not here: who may ask what there (`service`, `orchestration`).
"""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address

from exr_pipeline.errors import MisconfiguredError


def is_address(host: str) -> bool:
    """Whether a host is an IP address rather than a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    return host.lower() == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def in_url(host: str) -> str:
    """A host as a URL has it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def check_free(host: str, port: int) -> None:
    """Raise `MisconfiguredError` if nothing can listen at `--host` and `--port`."""
    try:
        # As Dagster's page does it: a port is free as soon as its last user has ended.
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise MisconfiguredError("--port", f"port {port} is already in use", "choose another port") from None
        raise MisconfiguredError("--host", f"{host}: {error.strerror}", "name an address of this machine") from None
