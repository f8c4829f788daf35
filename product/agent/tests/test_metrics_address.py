"""Where metrics are served: literal addresses, as the kernel's own reader takes them."""

from __future__ import annotations

import socket

import pytest

from product.agent.settings import check_value, metrics_addresses

WHOLE = (
    "127.0.0.1", "0.0.0.0", "255.255.255.255", "::", "::1", "1::", "2001:db8::7", "fe80::1:2",
    "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "ABCD::ef01",
)  # fmt: skip
BROKEN = (
    "127.1", "1.2.3", "1.2.3.4.5", "256.0.0.1", "01.2.3.4", "1.2.3.4:9100", "[::1]", ":", ":::",
    "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::", "g::", "fe80::1%eth0", ":1", "1:",
    "1:2:3:4:5:6:7::8:9", "localhost", "node.example",
)  # fmt: skip


@pytest.mark.parametrize("text", [*WHOLE, *BROKEN])
def test_as_the_kernel_takes_them(text: str) -> None:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
        whole = True
    except (OSError, ValueError):
        whole = False
    assert whole is (text in WHOLE)
    assert (check_value("metrics_address", text) is None) is whole


def test_several_or_none() -> None:
    assert check_value("metrics_address", "127.0.0.1,::1") is None
    assert metrics_addresses("127.0.0.1, ::1") == ["127.0.0.1", "::1"]
    for word in ("none", "off"):
        assert check_value("metrics_address", word) is None
        assert metrics_addresses(word) == []
    assert check_value("metrics_address", ",") is not None
    assert check_value("metrics_address", ",".join(["127.0.0.1"] * 9)) is not None
    assert check_value("metrics_port", "0") is not None
    assert check_value("metrics_port", "65536") is not None
