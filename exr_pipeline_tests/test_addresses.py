"""Addresses to listen at: who reaches them, how a URL has them, and that nothing else listens there."""

import socket

import pytest

from exr_pipeline.addresses import check_free, in_url, is_loopback
from exr_pipeline.errors import MisconfiguredError


def test_loopback_addresses_are_told_from_others() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost", "LocalHost", "127.3.2.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.0.2.7", "studio.example", "")))


def test_a_url_has_an_address_of_ipv6_in_brackets() -> None:
    assert (in_url("::1"), in_url("127.0.0.1"), in_url("studio")) == ("[::1]", "127.0.0.1", "studio")


def test_a_port_in_use_and_a_foreign_address_are_wrong_options() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(MisconfiguredError, match=f"port {port} is already in use") as caught:
            check_free("127.0.0.1", port)
        assert caught.value.setting == "--port"
    check_free("127.0.0.1", port)
    with pytest.raises(MisconfiguredError) as caught:
        check_free("192.0.2.7", 0)
    assert caught.value.setting == "--host"
