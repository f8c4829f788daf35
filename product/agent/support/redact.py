"""Taking secrets out of what leaves the node: by their values, where known, and by their form."""

from __future__ import annotations

import json
import os
import re
from binascii import b2a_base64
from collections.abc import Iterable, Iterator
from contextlib import suppress

from product.agent.system.files import read_bounded
from product.agent.system.paths import Paths

REDACTED = "[redacted]"
# Shorter values would stand for too much else.
MIN_SECRET = 8
MAX_BYTES = 256 * 1024
MAX_FILES = 500
# Of a private key in PEM: characters.
_MAX_KEY = 16384

# What is named like a secret; repetitions have bounds, because pods write what is read here. Names
# of what is public, or says where a secret lies, are left out, and so is a bare ``key``.
_WORDS = r"password|passwd|passphrase|secret|token|credential|key|psk|pwd"
_PUBLIC = (
    r"(?:keys?|[\w.-]{0,64}(?:pub|public|host|unknown|authorized|known)[_-]?keys?"
    rf"|[\w.-]{{0,64}}(?:{_WORDS})s?[_-]?(?:ids?|name|type|size|usage|file|path|dir))(?![\w.-])"
)
_NAMES = rf"(?=[\w.-]{{0,64}}(?:{_WORDS}))(?!{_PUBLIC})[\w.-]{{1,160}}"
_BEGIN = r"(?:^|(?<=[\s\"'\\{\[,;(]))"
# A string in quotes; one that is cut off goes to the end of the line. Inside of another one its
# quotes are escaped.
_STRING = (
    r"\\{1,8}[\"'][^\n]{0,4096}?\\{1,8}[\"']"
    r"|\"(?:\\.|[^\"\\\n])*\"?"
    r"|'(?:\\.|[^'\\\n])*'?"
)
_WORD = r"[^\s\"'{\[,;})\\][^\s\"',;})]*"
_LIST = r"\[[^\]\n]{0,4096}\]?"

_KEY = (
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----"
    rf"(?:.{{0,{_MAX_KEY}}}?PRIVATE KEY-----|.{{0,{_MAX_KEY}}})"
)
_END_OF_KEY = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]*PRIVATE KEY-----")
# https://user:password@host; a password may have an @ of its own.
_USER = r"(?<=://)[^/\s\"'<>]+(?=@)"
_QUERY = rf"(?i)([?&](?:{_NAMES}|sig|signature|key|auth))=[^&\s\"'<>]+"
_HEADER = r"(?i)\b(authorization\"?\s*[:=]\s*\"?(?:bearer|basic)?|bearer|basic)\s+[\w.+/=~-]{8,}"
_COOKIE = r"(?i)\b((?:set-)?cookie\s*:)[^\n]+"
# A token of a service account, or any other JSON web token.
_WEB_TOKEN = r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
# {"name": "NAME", "value": "..."}, the same in YAML, and with the value first.
_FIELD = r"\\{0,8}[\"']?"
_NAMED = (
    rf"(?i)(\bname{_FIELD}\s*[:=]\s*{_FIELD}{_NAMES}{_FIELD}\s*,?\s*"
    rf"{_FIELD}value{_FIELD}\s*[:=][ \t]*)(?:{_STRING}|[^\n]+)"
)
_NAMED_AFTER = (
    rf"(?i)(\bvalue{_FIELD}\s*[:=][ \t]*)(?:{_STRING}|{_WORD})"
    rf"(?=\s*,?\s*{_FIELD}name{_FIELD}\s*[:=]\s*{_FIELD}{_NAMES}{_FIELD})"
)
# A block of YAML, and a text that begins in the next line.
_BLOCK = (
    rf"(?im)^([ \t]*)((?:- )?[\"']?{_NAMES}[\"']?[ \t]*:)[ \t]*[|>][-+0-9]*[ \t]*\n"
    r"(?:(?:\1[ \t]+[^\n]*|[ \t]*)(?:\n|\Z))+"
)
_NEXT_LINE = (
    rf"(?im)^([ \t]*)((?:- )?[\"']?{_NAMES}[\"']?[ \t]*:)[ \t]*\n"
    r"\1[ \t]+(?!- )(?:[^\n:]|:(?=\S))+$"
)
# "NAME": value, NAME=value, NAME "value"; NAME: the rest of the line, as YAML has it.
_VALUE = (
    rf"(?im){_BEGIN}({_NAMES})(?:"
    rf"(\\{{0,8}}[\"'](?:\s*[:=]\s*|\s+(?=[\"']))|[ \t]*=[ \t]*|[ \t]+(?=[\"']))"
    rf"(?:{_STRING}|{_LIST}|{_WORD})"
    rf"|([ \t]*:[ \t]*)(?:{_STRING}|[^\s][^\n]*))"
)
# "--NAME", "value"; --NAME value.
_ARGUMENT = rf"(?i)([\"']-{{1,2}}{_NAMES}\\{{0,8}}[\"']\s*,?\s*)(?:{_STRING})"
_FLAG = rf"(?i)((?:^|(?<=[\s\"']))-{{1,2}}{_NAMES})[ =](?!-)(?:{_STRING}|[^\s\"',]+)"
_PATTERNS = (
    (re.compile(_KEY, re.DOTALL), REDACTED),
    (re.compile(_USER), REDACTED),
    # Whoever knows its path may post.
    (re.compile(r"(?i)(\bwebhook_url[\"']?\s*[:=]\s*)[^\s,]+"), rf"\1{REDACTED}"),
    # Of update.conf, whose passwords may have blanks.
    (re.compile(r"(?im)^([ \t]*(?:password|bearer_token)[ \t]*=)[^\n]+"), rf"\1{REDACTED}"),
    (re.compile(_QUERY), rf"\1={REDACTED}"),
    (re.compile(_HEADER), rf"\1 {REDACTED}"),
    (re.compile(_COOKIE), rf"\1 {REDACTED}"),
    (re.compile(_WEB_TOKEN), REDACTED),
    (re.compile(_BLOCK), rf"\1\2 {REDACTED}\n"),
    (re.compile(_NEXT_LINE), rf"\1\2 {REDACTED}"),
    (re.compile(_NAMED), rf"\1{REDACTED}"),
    (re.compile(_NAMED_AFTER), rf"\1{REDACTED}"),
    (re.compile(_FLAG), rf"\1 {REDACTED}"),
    (re.compile(_ARGUMENT), rf"\1{REDACTED}"),
    (re.compile(_VALUE), rf"\1\2\3{REDACTED}"),
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
        first = _END_OF_KEY.search(text)
        if first and first[1] == "END":
            # The beginning of the key was cut off.
            text = f"{text[: max(0, first.start() - _MAX_KEY)]}{REDACTED}{text[first.end() :]}"
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def find_secrets(paths: Paths) -> Iterator[str]:
    """The values that are secret on this node: lines of private keys, Edge keys, passwords."""
    for path in _secret_files(paths):
        try:
            with open(path, "rb") as file:
                text = file.read(MAX_BYTES).decode("utf-8-sig", "replace")
        except OSError:
            continue
        if path.endswith(".conf"):
            yield from _passwords(text)
            yield from _logins(text)
            for key in re.findall(r"(?m)^[ \t]*client_key[ \t]*=[ \t]*[\"']?([^\"'\n]+)", text):
                with suppress(OSError, ValueError):
                    data = read_bounded(paths.under(key.strip()), MAX_BYTES)
                    yield from _key_lines(data.decode(errors="replace"))
        elif path.endswith((".json", ".kubeconfig", ".yaml")):
            yield from _named_values(text)
        else:
            yield from _key_lines(text)


def _secret_files(paths: Paths) -> Iterator[str]:
    settings = paths.under("/etc/kubesolo")
    for name in ("kubernetes.json", "kubesolo.yaml", "update.conf"):
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


def _passwords(text: str) -> Iterator[str]:
    """Of URLs."""
    for user in re.findall(_USER, text):
        yield user
        yield user.partition(":")[2]


def _logins(text: str) -> Iterator[str]:
    """Of update.conf, also as the header of a request has them."""
    values = {}
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        values[key] = value
    yield values.get("bearer_token", "")
    if password := values.get("password"):
        yield from _spellings(password)
        user = values.get("username", "")
        yield b2a_base64(f"{user}:{password}".encode(), newline=False).decode()


def _key_lines(text: str) -> Iterator[str]:
    """Each line of a key: a log may hold a part of it."""
    for line in text.splitlines():
        if len(line) >= 32 and not line.startswith("-----"):
            yield line.strip()


def _named_values(text: str) -> Iterator[str]:
    """Values of keys that are named like secrets, in JSON or YAML."""
    try:
        yield from _in_document(json.loads(text))
        return
    except (ValueError, RecursionError):
        pass
    import yaml

    try:
        # All documents, and all kinds of values as text.
        for document in yaml.load_all(text, Loader=yaml.BaseLoader):
            yield from _in_document(document)
    except (yaml.YAMLError, ValueError, RecursionError):
        pattern = re.compile(rf"(?im)^\s*[\"']?{_NAMES}[\"']?\s*:\s*[\"']?([^\s\"']+)")
        yield from pattern.findall(text)


def _in_document(value: object, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        named = value.get("name")
        for key, child in value.items():
            own = str(named) if key == "value" and isinstance(named, str) else str(key)
            yield from _in_document(child, own)
    elif isinstance(value, list):
        before = ""
        for child in value:
            flag, equals, rest = str(child).partition("=")
            yield from _in_document(rest if equals and flag.startswith("-") else child, name)
            # A flag, and its value as the next argument.
            if before.startswith("-") and isinstance(child, str):
                yield from _in_document(child, before.lstrip("-"))
            if equals and flag.startswith("-"):
                yield from _in_document(rest, flag.lstrip("-"))
            before = child if isinstance(child, str) else ""
    elif isinstance(value, str | int) and re.fullmatch(rf"(?i){_NAMES}", name):
        yield from _spellings(str(value))


def _spellings(text: str) -> Iterator[str]:
    yield text
    # In base64 it may be padded or not, and JSON escapes some letters.
    yield text.rstrip("=")
    yield json.dumps(text)[1:-1]
    # A folded text has its words in lines of their own.
    yield from text.split()
