"""The keys of ``update.conf``, what their values may be, and which mistyped key was meant."""

from __future__ import annotations

import re
from typing import NamedTuple

from product.agent.errors import ConfigError, hide_logins
from product.agent.window import parse_window

CHOICES = {"datastore_restore": ("minor", "always", "never")}
TEXT_KEYS = (
    "server",
    "registry",
    "tag",
    "channel",
    "maintenance_window",
    "pubkey",
    "healthcheck_url",
    "pod_servers",
    "webhook_url",
    "metrics_address",
)


class _Range(NamedTuple):
    least: int
    most: int


# The check's deadline is cut to an hour where it is used; days would be a mistake.
NUMBER_KEYS = {
    "auto_rollback_after": _Range(0, 1000),
    "kube_system_settle": _Range(0, 3600),
    "healthcheck_deadline": _Range(0, 86400),
    # Minutes; 0 is never.
    "check_interval": _Range(0, 525_600),
    "check_jitter": _Range(0, 525_600),
    "hook_timeout": _Range(1, 3600),
    "metrics_port": _Range(1, 65535),
}
KEYS = frozenset((*TEXT_KEYS, *CHOICES, *NUMBER_KEYS))

_HOST = r"(?:[^\s/?#@]+@)?(?:\[[0-9A-Fa-f:.%]+\]|[^\s/?#@:\[\]]+)(?::(?P<port>[0-9]{1,5}))?"
# A server, or a file system by its label; a repository's files are named below its address.
_SERVER = rf"(?i:https?)://{_HOST}(?:/[^\s?#]*)?|disk:[A-Za-z0-9_-]{{1,16}}(?:/[^\s?#]*)?"
_URL = rf"(?i:https?)://{_HOST}(?:[/?][^\s#]*)?"
# References of the OCI distribution specification 1.1.
_REGISTRY = r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_CHANNEL = r"[a-z0-9][a-z0-9._-]{0,63}"

# The value may be no URL, and its password then holds what a URL's cannot.
_ANY_LOGIN = re.compile(r"//.{1,2048}@", re.DOTALL)

# Hosts as a URL names them, with a port or without, behind blanks or commas.
_PLACE = r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?"
_PLACES = rf"{_PLACE}(?:[ ,]+{_PLACE}){{0,63}}"

# Each key's pattern, and what a value is not that does not match it.
_PATTERNS = {
    "server": (_SERVER, "not an address like https://releases.example.com/kubesolo"),
    "healthcheck_url": (_URL, "not an http or https URL"),
    "webhook_url": (_URL, "not an http or https URL"),
    "registry": (_REGISTRY, "not a repository like registry.example.com/kubesolo-os"),
    "tag": (_TAG, "not a tag"),
    "pod_servers": (_PLACES, "not hosts like 127.0.0.1:8080, localhost"),
    "channel": (_CHANNEL, "not a channel: small letters, digits, dots and dashes"),
}

# What metrics_address says where nothing is to be served.
NO_METRICS = ("none", "off")
_MAX_ADDRESSES = 8
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"

# How people write before a key, one behind another: a shell's words, and other files' sections.
_PREFIXES = ("export", "set", "updates", "update", "os", "kubesolo")
_MAX_PREFIXES = 16
# Letters of every word for a window; one that is passed over would be open.
_OF_A_WINDOW = ("window", "maint")
# Keys of so many characters may have two wrong ones.
_LONG = 12
_LONGEST = 64


def check_value(key: str, text: str) -> str | None:
    """Why ``text``, not empty, cannot be the value of ``key``; None where it can.

    The reason follows a comma, as in ``channel is 'A', not a channel``.
    """
    if key in NUMBER_KEYS:
        least, most = NUMBER_KEYS[key]
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            return "not a whole number"
        if not least <= int(text) <= most:
            return f"not a number from {least} to {most}"
        return None
    if key in CHOICES:
        return None if text in CHOICES[key] else f"not one of {', '.join(CHOICES[key])}"
    if not text.isprintable():
        return "which has characters that cannot be printed"
    if key == "maintenance_window":
        try:
            parse_window(text)
        except ConfigError as error:
            return f"not a window: {error.hint}"
        return None
    if key == "metrics_address":
        return None if _are_addresses(text) else "not addresses like 127.0.0.1,::1, or none"
    if key not in _PATTERNS:
        return None
    pattern, reason = _PATTERNS[key]
    found = re.fullmatch(pattern, text)
    if found is None:
        return reason
    port = found.groupdict().get("port")
    return reason if port is not None and not 0 < int(port) < 65536 else None


def metrics_addresses(text: str) -> list[str]:
    """The addresses at which metrics are served; none where they are not."""
    return [] if text in NO_METRICS else text.replace(",", " ").split()


def _are_addresses(text: str) -> bool:
    """Neither names, which may lead anywhere, nor ``127.1``."""
    if text in NO_METRICS:
        return True
    found = metrics_addresses(text)
    return 0 < len(found) <= _MAX_ADDRESSES and all(map(_is_address, found))


def _is_address(text: str) -> bool:
    """By hand: what could tell costs more than all else that reads the file."""
    if ":" not in text:
        return re.fullmatch(rf"{_OCTET}(?:\.{_OCTET}){{3}}", text) is not None
    left, gap, right = text.partition("::")
    groups = [*left.split(":"), *right.split(":")] if gap else text.split(":")
    filled = [group for group in groups if group]
    # Beside the gap nothing is empty but a whole side of it.
    if len(filled) != len(groups) - (gap != "") * ((not left) + (not right)):
        return False
    enough = len(filled) < 8 if gap else len(filled) == 8
    return enough and all(re.fullmatch("[0-9A-Fa-f]{1,4}", group) for group in filled)


def nearest_key(text: str) -> str | None:
    """The key that somebody meant who wrote ``text``; None where it is like none.

    It may differ by case, by what stands between its words, by a shell's or sections' words before
    it, and by a letter; a long one by two. ``text`` may go on behind a colon or a blank. Whatever
    speaks of a window, or of maintenance, is taken for the window.
    """
    words = text.lstrip("\ufeff-").replace(":", " ").split()
    for word in dict.fromkeys((*words[:3], "".join(words[:3]))):
        for candidate in _without_prefixes(_squeezed(word)):
            for key in sorted(KEYS):
                if _is_near(candidate, key.replace("_", "")):
                    return key
    letters = _squeezed(text)
    return "maintenance_window" if any(part in letters for part in _OF_A_WINDOW) else None


def _without_prefixes(text: str) -> list[str]:
    """``text``, and what is left of it without one word before it after another."""
    found = [text]
    for rest in found:
        for prefix in _PREFIXES:
            if rest.startswith(prefix) and len(found) < _MAX_PREFIXES:
                found.append(rest.removeprefix(prefix))
    return found


def shown(text: str) -> str:
    """``text`` in quotes, short, without a URL's login or anything that a terminal obeys."""
    text = _ANY_LOGIN.sub("//***@", text)
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def without_path(text: str) -> str:
    """The host of a URL whose path may be a secret, as those of webhooks are."""
    scheme, mark, rest = hide_logins(text).partition("://")
    return f"{scheme}{mark}{re.split('[/?]', rest)[0]}/***"


def _squeezed(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def _is_near(text: str, key: str) -> bool:
    limit = 2 if len(key) >= _LONG else 1
    return abs(len(text) - len(key)) <= limit and _distance(text, key) <= limit


def _distance(one: str, other: str) -> int:
    """Letters to insert, remove, replace or swap with the next one."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        earlier, before, row = before, row, [i]
        for j, b in enumerate(other, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
    return row[-1]
