"""Lines of logs as services left them: svlogd's files, the kernel's levels, containers' logs.

svlogd puts UTC before each line, ``2026-12-01_10:17:17.12345``; ``current`` is the file that it
writes, ``@...`` are older ones.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

KERNEL = "kernel"
# What early boot, the stages and the agent say, which the kernel's log keeps.
BOOT = "boot"
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)_(\d\d:\d\d:\d\d\.\d+) ?(.*)", re.DOTALL)
_CONTAINER = re.compile(r"(\d{4}-\d\d-\d\dT\S+?)(?:Z|[+-]\d\d:\d\d) (?:stdout|stderr) [FP] (.*)")
_LEVEL = re.compile(r"<(\d+)>(.*)", re.DOTALL)
# Longer ones are cut: nobody wrote them for people.
_MAX_LINE = 16 * 1024


class Line(NamedTuple):
    """``time`` is ISO 8601, UTC, of the clock as it stood; empty where nothing says it."""

    time: str
    service: str
    text: str


def services_of(folder: str) -> list[str]:
    """Names of the services that have logs in a boot's folder."""
    found = []
    for name in sorted(_listing(folder)):
        if any(part == "current" or part[:1] == "@" for part in _listing(f"{folder}/{name}")):
            found.append(name)
    return found


def boot_lines(folder: str, service: str | None = None) -> Iterator[Line]:
    """The lines of a boot's services, by time; those of one service in the order it wrote them.

    ``service`` alone, where it is given: also ``boot``, which is a part of the kernel's log.
    """
    wanted = services_of(folder)
    if service is not None:
        source = KERNEL if service == BOOT else service
        wanted = [name for name in wanted if name == source]
    streams = [_ordered(_service_lines(folder, name)) for name in wanted]
    for _, line in heapq.merge(*streams, key=lambda entry: entry[0]):
        if service is None or line.service == service:
            yield line


def pod_lines(pods: str, name: str) -> Iterator[Line]:
    """What the containers of pod ``NAMESPACE/NAME`` said, whatever boot it was in."""
    namespace, _, pod = name.partition("/")
    streams = []
    for folder in sorted(_listing(pods)):
        parts = folder.split("_")
        if len(parts) < 3 or parts[0] != namespace or parts[1] != pod:
            continue
        for container in sorted(_listing(f"{pods}/{folder}")):
            place = f"{pods}/{folder}/{container}"
            streams.append(_ordered(_container_lines(place, f"{name}/{container}")))
    for _, line in heapq.merge(*streams, key=lambda entry: entry[0]):
        yield line


def pods_in(pods: str) -> list[str]:
    """``NAMESPACE/NAME`` of the pods that have logs."""
    names = (folder.split("_") for folder in _listing(pods))
    return sorted({f"{parts[0]}/{parts[1]}" for parts in names if len(parts) >= 3})


def _ordered(lines: Iterator[Line]) -> Iterator[tuple[str, Line]]:
    """Keys that never fall, though a clock may have been set back."""
    latest = ""
    for line in lines:
        latest = max(latest, line.time)
        yield latest, line


def _service_lines(folder: str, service: str) -> Iterator[Line]:
    names = _listing(f"{folder}/{service}")
    files = [*sorted(name for name in names if name.startswith("@")), "current"]
    for text in texts(f"{folder}/{service}", files):
        yield parse_line(service, text)


def parse_line(service: str, text: str) -> Line:
    """A line as svlogd wrote it."""
    match = _STAMP.match(text)
    time, text = (f"{match[1]}T{match[2]}Z", match[3]) if match else ("", text)
    if service == KERNEL and (level := _LEVEL.match(text)):
        # Facility 0 is the kernel's own.
        return Line(time, BOOT if int(level[1]) >> 3 else KERNEL, level[2])
    return Line(time, service, text)


def _container_lines(folder: str, name: str) -> Iterator[Line]:
    """Rotated files carry their time after the name; compressed ones are left out."""
    files = [file for file in _listing(folder) if not file.endswith((".gz", ".tmp"))]
    files.sort(key=lambda file: (file.partition(".")[0].zfill(9), file.endswith(".log"), file))
    for text in texts(folder, files):
        match = _CONTAINER.match(text)
        yield Line(f"{match[1]}Z", name, match[2]) if match else Line("", name, text)


def texts(folder: str, files: list[str]) -> Iterator[str]:
    """Lines of these files, long ones cut; a file that is gone has none."""
    for file in files:
        try:
            with open(f"{folder}/{file}", "rb") as lines:
                while data := lines.readline(_MAX_LINE):
                    yield data.decode(errors="replace").rstrip("\n")
        except OSError:
            # Rotated away meanwhile, or never there.
            continue


def _listing(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
