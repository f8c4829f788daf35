"""The name under which Kubernetes knows this node, and what else names it."""

from __future__ import annotations

FALLBACK = "kubesolo"
_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
# RFC 1123 for a label; a whole name must fit the 64 letters of a certificate's common name after
# "system:node:".
LABEL_MAX = 63
NAME_MAX = 52


def node_name(hostname: str) -> str:
    """``hostname`` as Kubernetes accepts it: lower-case RFC 1123 labels between dots.

    Never fails: what is not allowed becomes a hyphen, and nothing at all becomes ``kubesolo``.
    """
    labels = []
    for raw in hostname.strip().lower().split("."):
        label = "".join(letter if letter in _ALLOWED else "-" for letter in raw)
        label = label[:LABEL_MAX].strip("-")
        if label:
            labels.append(label)
    return ".".join(labels)[:NAME_MAX].rstrip("-.") or FALLBACK


def is_address(text: str) -> bool:
    """Whether this is an IP address. The module ipaddress would cost a start more than this."""
    from socket import AF_INET, AF_INET6, inet_pton

    for family in (AF_INET, AF_INET6):
        try:
            inet_pton(family, text)
            return True
        except (OSError, ValueError):
            continue
    return False


def is_link_local(text: str) -> bool:
    """Whether this IP address counts on one link alone: 169.254.0.0/16, fe80::/10."""
    from socket import AF_INET6, inet_pton

    if ":" not in text:
        return text.startswith("169.254.")
    first, second = inet_pton(AF_INET6, text)[:2]
    return first == 0xFE and second & 0xC0 == 0x80


def is_network(text: str) -> bool:
    """Whether this is an IP address, or a network such as 10.0.0.0/8."""
    address, slash, bits = text.partition("/")
    if not is_address(address):
        return False
    longest = 128 if ":" in address else 32
    return not slash or (bits.isascii() and bits.isdigit() and int(bits[:4]) <= longest)
