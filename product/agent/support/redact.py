"""Taking secrets out of what leaves the node: by their values, where known, and by their form."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator

from product.agent.system.paths import Paths

REDACTED = "[redacted]"
# Shorter values would stand for too much else.
MIN_SECRET = 8
MAX_BYTES = 256 * 1024
MAX_FILES = 500

_NAMES = (
    r"[\w.-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|edge[_-]?key|private[_-]?key"
    r"|client[_-]key[_-]data|access[_-]?key|credentials?)"
)
_KEY = r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.{0,16384}?(?:PRIVATE KEY-----|\Z)"
# https://user:password@host
_USER = r"(?<=://)[^/\s@\"'<>]+(?=@)"
_QUERY = rf"(?i)([?&]{_NAMES}|[?&](?:sig|signature|key|auth))=[^&\s\"'<>]+"
_HEADER = r"(?i)\b(authorization\"?\s*[:=]\s*\"?(?:bearer|basic)?|bearer|basic)\s+[\w.+/=~-]{8,}"
# A token of a service account, or any other JSON web token.
_WEB_TOKEN = r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
# NAME: value, "NAME": "value", NAME=value
_VALUE = (
    rf"(?i)((?:^|[\s\"'{{,;(-]){_NAMES}[\"']?(?:\s*[:=]\s*|\s+(?=[\"'])))"
    r"(\"[^\"\n]*\"|'[^'\n]*'|[^\s\"',;}\)]+)"
)
_FLAG = rf"(?i)(--{_NAMES})[ =](\S+)"
_PATTERNS = (
    (re.compile(_KEY, re.DOTALL), REDACTED),
    (re.compile(_USER), REDACTED),
    (re.compile(_QUERY), rf"\1={REDACTED}"),
    (re.compile(_HEADER), rf"\1 {REDACTED}"),
    (re.compile(_WEB_TOKEN), REDACTED),
    (re.compile(_VALUE), rf"\1{REDACTED}"),
    (re.compile(_FLAG), rf"\1 {REDACTED}"),
)


class Redactor:
    """Replaces what is secret in texts; ``values`` are secrets of this very node."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        found = {value for value in values if len(value) >= MIN_SECRET}
        # The longest first: one may be a part of another.
        self._values = sorted(found, key=len, reverse=True)

    def clean(self, text: str) -> str:
        """``text`` without secrets."""
        for value in self._values:
            if value in text:
                text = text.replace(value, REDACTED)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def find_secrets(paths: Paths) -> Iterator[str]:
    """The values that are secret on this node: lines of private keys, Edge keys, passwords."""
    for path in _secret_files(paths):
        try:
            with open(path, "rb") as file:
                text = file.read(MAX_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        if path.endswith((".json", ".kubeconfig", ".yaml")):
            yield from _named_values(text)
        else:
            yield from _key_lines(text)


def _secret_files(paths: Paths) -> Iterator[str]:
    settings = paths.under("/etc/kubesolo")
    for name in ("kubernetes.json", "kubesolo.yaml"):
        yield f"{settings}/{name}"
    found = 0
    for folder, folders, names in os.walk(paths.data):
        # Volumes and images of pods are theirs, and many.
        folders[:] = [name for name in folders if name not in ("containerd", "etcd", "local")]
        for name in names:
            if name.endswith((".key", ".kubeconfig")):
                found += 1
                yield f"{folder}/{name}"
        if found > MAX_FILES:
            return


def _key_lines(text: str) -> Iterator[str]:
    """Each line of a key: a log may hold a part of it."""
    for line in text.splitlines():
        if len(line) >= 32 and not line.startswith("-----"):
            yield line.strip()


def _named_values(text: str) -> Iterator[str]:
    """Values of keys that are named like secrets, in JSON or YAML."""
    try:
        yield from _in_document(json.loads(text))
    except (ValueError, RecursionError):
        pattern = re.compile(rf"(?im)^\s*[\"']?{_NAMES}[\"']?\s*:\s*[\"']?([^\s\"']+)")
        yield from pattern.findall(text)


def _in_document(value: object, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _in_document(child, str(key))
    elif isinstance(value, list):
        for child in value:
            yield from _in_document(child, name)
    elif isinstance(value, str) and re.fullmatch(rf"(?i){_NAMES}", name):
        yield value
        # In base64 it may be padded or not.
        yield value.rstrip("=")
