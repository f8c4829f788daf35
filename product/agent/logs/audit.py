"""Events of the kernel's audit, a line each, as auditd left their records.

auditd writes ``audit.log``; ``audit.log.1`` is the one before it, and so on. An event is one record
or several with the same stamp, ``msg=audit(SECONDS:NUMBER):``, seconds since 1970. Strings stand in
quotes, or in hexadecimal where they hold something unusual: programs choose some of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from product.agent.logs.lines import Line, texts
from product.agent.system.clock import timestamp

SERVICE = "audit"
FILE = "audit.log"
# Events whose records may lie between each other's, of different processors.
_OPEN = 16
# Records of one event; an attacker's program may open many files in one call.
_RECORDS = 64
_RECORD = re.compile(r"type=(\S+) msg=audit\((\d{1,11})\.(\d{3}):(\d{1,20})\): ?(.*)", re.DOTALL)
_FIELD = re.compile(r"""(?:^|\s)([A-Za-z_][\w-]*)=("[^"]*"|'[^']*'|\S+)""")
_HEX = re.compile(r"(?:[0-9A-F]{2})+")
# Fields of a call that a reader wants, as this module names them.
_WANTED = {"uid": "uid", "auid": "login", "pid": "pid", "ppid": "parent"}
_NOBODY = "4294967295"
# What auditd or the kernel adds to each event and says nothing by itself.
_PLAIN = frozenset({"SYSCALL", "CWD", "PATH", "PROCTITLE", "EOE"})


def audit_lines(folder: str) -> Iterator[Line]:
    """A line for each event in ``folder``, the oldest first."""
    waiting: dict[str, list[tuple[str, str]]] = {}
    for text in texts(folder, _files(folder)):
        match = _RECORD.fullmatch(text)
        if match is None:
            continue
        stamp = f"{match[2]}.{match[3]}:{match[4]}"
        records = waiting.setdefault(stamp, [])
        if len(records) < _RECORDS:
            records.append((match[1], match[5]))
        if len(waiting) > _OPEN:
            oldest = next(iter(waiting))
            yield _line(oldest, waiting.pop(oldest))
    for stamp, records in waiting.items():
        yield _line(stamp, records)


def _files(folder: str) -> list[str]:
    """The log's files, the oldest first."""
    numbers = []
    try:
        for name in os.listdir(folder):
            number = name.removeprefix(f"{FILE}.")
            if number != name and number.isascii() and number.isdecimal():
                numbers.append(int(number))
    except OSError:
        return []
    return [f"{FILE}.{number}" for number in sorted(numbers, reverse=True)] + [FILE]


def _line(stamp: str, records: list[tuple[str, str]]) -> Line:
    seconds, _, rest = stamp.partition(".")
    time = f"{timestamp(int(seconds)).removesuffix('Z')}.{rest.partition(':')[0]}Z"
    return Line(time, SERVICE, _text(records))


def _text(records: list[tuple[str, str]]) -> str:
    """``KEY: yes uid=0 pid=812 exe=... command="..." paths=A,B``, and what else was recorded."""
    fields = dict(found for kind, text in records if kind == "SYSCALL" for found in _fields(text))
    key = fields.get("key", "(null)")
    others = [(kind, text) for kind, text in records if kind not in _PLAIN]
    if key == "(null)":
        key = others[0][0].lower() if others else records[0][0].lower()
    said = [f"{key}:"]
    if "success" in fields:
        said.append(fields["success"])
    for name, label in _WANTED.items():
        if fields.get(name, _NOBODY) not in (_NOBODY, "unset"):
            said.append(f"{label}={fields[name]}")
    if "exe" in fields:
        said.append(f"exe={fields['exe']}")
    for kind, text in records:
        if kind == "PROCTITLE":
            command = dict(_fields(text)).get("proctitle", "").replace("\0", " ")
            said.append(f'command="{command}"')
    paths = [dict(_fields(text)).get("name", "") for kind, text in records if kind == "PATH"]
    named = [path for path in dict.fromkeys(paths) if path not in ("", "(null)")]
    if named:
        said.append(f"paths={','.join(named)}")
    said += [text.replace("\x1d", " ") for _, text in others]
    return _printable(" ".join(said))


def _fields(text: str) -> Iterator[tuple[str, str]]:
    for name, value in _FIELD.findall(text.partition("\x1d")[0]):
        yield name, _plain(name, value)


def _plain(name: str, value: str) -> str:
    """A value without its quotes, or out of its hexadecimal digits."""
    if value[:1] in "\"'" and len(value) >= 2:
        return value[1:-1]
    if name in ("proctitle", "name", "exe", "comm", "key") and _HEX.fullmatch(value):
        return bytes.fromhex(value).decode("utf-8", "replace")
    return value


def _printable(text: str) -> str:
    """One line of it, whatever a program called itself."""
    return "".join(c if c.isprintable() else "?" for c in text)
