"""The keys of ``update.conf``, what their values may be, and which mistyped key was meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from product.agent.errors import ConfigError, has_login, hide_logins
from product.agent.window import parse_window

CHOICES = {
    "datastore_restore": ("minor", "always", "never"),
    "require_cosign": ("yes", "no"),
    "usb_updates": ("install", "check", "no"),
    "deltas": ("yes", "no"),
}
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
    "proxy",
    "no_proxy",
    "ca_certificates",
    "client_certificate",
    "client_key",
    "username",
    "password",
    "bearer_token",
    "rate_limit",
    "cosign_key",
    "metrics_address",
)
# Of a registry, where none is set.
DEFAULT_TAG = "latest"
# Shown nowhere, not even where they cannot be used.
SECRET_KEYS = ("password", "bearer_token")
# What proves who the node is: for the server that update.conf names, and for no other.
LOGIN_KEYS = ("username", *SECRET_KEYS, "client_certificate", "client_key")


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
_REGISTRY = (
    r"(?:(?i:https?|oci)://)?(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+"
)
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|sha256:[0-9a-f]{64}"
_CHANNEL = r"[a-z0-9][a-z0-9._-]{0,63}"

# The value may be no URL, and its password then holds what a URL's cannot.
_ANY_LOGIN = re.compile(r"//.{1,2048}@", re.DOTALL)

# Hosts as a URL names them, with a port or without, behind blanks or commas.
_PLACE = r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?"
_PLACES = rf"{_PLACE}(?:[ ,]+{_PLACE}){{0,63}}"

# A proxy has no path: what is asked for goes through it as it is.
_PROXY = rf"(?i:https?)://{_HOST}/?"
# Hosts, domains and networks, as the variable no_proxy of other programs has them.
_AWAY = r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Fa-f:.]{2,45}(?:/[0-9]{1,3})?|[A-Za-z0-9.*_-]{1,253})"
_AWAY_LIST = rf"{_AWAY}(?:[ ,]+{_AWAY}){{0,63}}"
# RFC 7617: the first colon ends the name. RFC 6750: what a bearer token is made of.
_USERNAME = r"[^:]{1,255}"
_PASSWORD = r".{1,1024}"
_TOKEN = r"[A-Za-z0-9._~+/-]{1,8192}={0,8}"
_RATE = re.compile(r"([0-9]{1,9})([kKM]?)")
_UNITS = {"": 1, "k": 1000, "K": 1000, "M": 1_000_000}
_LEAST_RATE = 1000
_NO_RATE = "not bytes a second like 500k or 2M (k is 1000), at least 1k"

# Each key's pattern, and what a value is not that does not match it.
_PATTERNS = {
    "server": (_SERVER, "not an address like https://releases.example.com/kubesolo"),
    "healthcheck_url": (_URL, "not an http or https URL"),
    "webhook_url": (_URL, "not an http or https URL"),
    "registry": (_REGISTRY, "not a repository like registry.example.com/kubesolo-os"),
    "tag": (_TAG, "not a tag, nor a digest like sha256:0123...cdef with 64 digits"),
    "pod_servers": (_PLACES, "not hosts like 127.0.0.1:8080, localhost"),
    "proxy": (_PROXY, "not a proxy like http://proxy.example.com:3128"),
    "no_proxy": (_AWAY_LIST, "not hosts, domains and networks like .example.com, 10.0.0.0/8"),
    "username": (_USERNAME, "not a user's name: it has no colon, and at most 255 letters"),
    "password": (_PASSWORD, "longer than 1024 letters"),
    "bearer_token": (_TOKEN, "which has what no bearer token has, or more than 8192 letters"),
    "channel": (_CHANNEL, "not a channel: small letters, digits, dots and dashes"),
}

# What metrics_address says where nothing is to be served.
NO_METRICS = ("none", "off")
_MAX_ADDRESSES = 8

# How people write before a key, one behind another: a shell's words, and other files' sections.
_PREFIXES = ("export", "set", "updates", "update", "os", "kubesolo")
_MAX_PREFIXES = 16
# Letters of every word for a window; one that is passed over would be open.
_OF_A_WINDOW = ("window", "maint")
# The same for a secret, which no message shows.
_OF_A_SECRET = ("pass", "pwd", "token", "bearer", "secret")
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
    if key == "rate_limit":
        return None if (bytes_a_second(text) or 0) >= _LEAST_RATE else _NO_RATE
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


def bytes_a_second(text: str) -> int | None:
    """The value of ``rate_limit``; None where it is none."""
    found = _RATE.fullmatch(text)
    return int(found[1]) * _UNITS[found[2]] if found else None


def check_together(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Key and reason of each value that does not go with the others, or without one."""
    for key, other in (
        ("username", "password"),
        ("password", "username"),
        ("client_certificate", "client_key"),
        ("client_key", "client_certificate"),
    ):
        if values.get(key) and not values.get(other):
            yield key, f"needs {other}, too"
    if values.get("username") and values.get("bearer_token"):
        yield "bearer_token", "and username are both there, and a request has one login"
    for key in ("username", "bearer_token"):
        if values.get(key) and has_login(str(values.get("server") or "")):
            yield key, "is there, and server has a login of its own: leave one of them out"
    if values.get("server") and values.get("registry"):
        yield "registry", "and server are both there; releases come from one"
    if values.get("tag") and not values.get("registry"):
        yield "tag", "needs registry, too"
    if values.get("require_cosign") == "yes" and not values.get("cosign_key"):
        yield "require_cosign", "is yes and needs cosign_key, too"
    if values.get("require_cosign") == "yes" and values.get("server"):
        yield "require_cosign", "is yes, and only a registry has such signatures, not a server"


def registry_address(registry: str, tag: str | None) -> str:
    """The two values for people, as in ``oci://registry.example.com/kubesolo-os:latest``."""
    tag = tag or DEFAULT_TAG
    place = registry.rpartition("://")[2].strip("/")
    return f"oci://{place}{'@' if ':' in tag else ':'}{tag}"


def is_same_source(one: str, other: str) -> bool:
    """Whether two values of server, or of registry, are of one host and port by one scheme."""
    return _authority(one) == _authority(other)


def _authority(source: str) -> tuple[str, str]:
    scheme, mark, rest = source.lower().partition("://")
    if not mark:
        scheme, rest = "https", scheme
    scheme = "https" if scheme == "oci" else scheme
    host = re.split("[/?#]", rest)[0].rpartition("@")[2]
    default = {"http": ":80", "https": ":443"}.get(scheme)
    return scheme, host.removesuffix(default) if default else host


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
    # Part of the interpreter, where ipaddress would have to be imported.
    from _socket import AF_INET, AF_INET6, inet_pton

    try:
        inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


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


def shown_line(text: str) -> str:
    """A line, or what stands before its equals sign, for a message; of one that may be a secret's
    its first word."""
    letters = _squeezed(text)
    if any(part in letters for part in _OF_A_SECRET):
        text = re.split(r"[\s:=]", text, maxsplit=1)[0]
    return shown(text)


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
