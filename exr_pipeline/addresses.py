"""Addresses to listen at: which are of this machine alone, how URLs and browsers have them, whether one is free.

Belongs here: what all that listen have in common. Not here: who may ask what there (`service`, `orchestration`).
"""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from exr_pipeline.errors import MisconfiguredError

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


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


def split_address(url: str) -> SplitResult | None:
    """The parts of a URL that is an address and no more, such as `//host:80`; None if it is anything else."""
    try:
        parts = urlsplit(url)
        # To ask for a wrong port is an error too.
        is_address = parts.hostname and parts.port != 0 and not parts.username and parts.path in {"", "/"}
    except ValueError:
        return None
    return parts if is_address else None


def is_same_address(origin: str, host: SplitResult) -> bool:
    """Whether an `Origin` of a browser is the address that its `Host` names. A port left out is that of the scheme."""
    parts = split_address(origin)
    if parts is None or parts.scheme not in _DEFAULT_PORTS:
        return False
    usual = _DEFAULT_PORTS[parts.scheme]
    return (parts.hostname, parts.port or usual) == (host.hostname, host.port or usual)


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
