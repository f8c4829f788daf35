"""Names of hosts as Kubernetes accepts them."""

from __future__ import annotations

import pytest

from product.node.names import node_name


@pytest.mark.parametrize(
    ("hostname", "name"),
    [
        ("node-1", "node-1"),
        ("Node-1", "node-1"),
        ("my_node", "my-node"),
        ("a.b.example", "a.b.example"),
        ("-a-.-b-", "a.b"),
        ("a..b", "a.b"),
        ("küche", "k-che"),
        ("Ⅷ", "kubesolo"),
        ("", "kubesolo"),
        ("(none)", "none"),
        ("...", "kubesolo"),
        ("x" * 64, "x" * 52),
        ("x" * 51 + "-y", "x" * 51),
        ("a b\tc", "a-b-c"),
    ],
)
def test_names(hostname: str, name: str) -> None:
    assert node_name(hostname) == name
    assert node_name(name) == name
