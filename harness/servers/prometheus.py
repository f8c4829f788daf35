"""Debian's Prometheus as a context manager: a real scraper, and the language that rules are in.

A supervisor of its own ends it, however the test or the runner ends, and removes its storage.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from harness.deadline import Deadline
from harness.errors import DeadlineError, LaunchError
from harness.journal.journal import Journal
from harness.qemu.process import Process
from harness.qemu.tools import HostTools

_T = TypeVar("_T")
_START_SECONDS = 60.0
_WAIT_SECONDS = 60.0
_ANSWER_SECONDS = 20.0
_POLL_SECONDS = 0.05
_LISTENING = re.compile(r'msg="Listening on" address=127\.0\.0\.1:(?P<port>\d+)')


class Sample(NamedTuple):
    """One element of an instant vector; ``labels`` without the metric's name."""

    name: str
    labels: dict[str, str]
    value: float


class Target(NamedTuple):
    """A scraped address: ``health`` is up, down or unknown, ``error`` what the last scrape said."""

    url: str
    health: str
    error: str


class Prometheus:
    """A Prometheus with the configuration ``config`` (its text) while the context lasts.

    Paths in the configuration are best absolute. ``runs`` is where its storage lies meanwhile.
    """

    def __init__(self, tools: HostTools, runs: Path, config: str) -> None:
        self._tools = tools
        self._runs = runs
        self._config = config
        self._process: Process | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._process = Process(self._runs, Journal("prometheus"), lambda: None)
        try:
            self._start(self._process)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it and remove its storage."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _start(self, process: Process) -> None:
        folder = process.directory
        (folder / "prometheus.yml").write_text(self._config)
        argv = self._tools.argv(
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
            "--log.level=info",
        )
        deadline = Deadline.after(_START_SECONDS)
        process.start(argv, (), deadline)
        while (found := _LISTENING.search(process.last_words())) is None:
            if process.pid is None or deadline.passed:
                raise LaunchError(f"Prometheus does not serve: {process.last_words()[-2000:]}")
            time.sleep(_POLL_SECONDS)
        self.url = f"http://127.0.0.1:{found['port']}"
        self._wait("it is ready", lambda: self._is_ready() or None, deadline)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=_ANSWER_SECONDS) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def query(self, expression: str) -> list[Sample]:
        """What ``expression`` is now. Raises ValueError, with what Prometheus says, where it is
        none, and OSError."""
        result = self._api("query", query=expression)
        kind, found = result["resultType"], result["result"]
        if kind == "scalar":
            return [Sample("", {}, float(found[1]))]
        samples = []
        for entry in found:
            labels = dict(entry["metric"])
            name = labels.pop("__name__", "")
            samples.append(Sample(name, labels, float(entry["value"][1])))
        return samples

    def value(self, expression: str) -> float | None:
        """The one value of ``expression``; None where there is none, or several."""
        found = self.query(expression)
        return found[0].value if len(found) == 1 else None

    def targets(self) -> list[Target]:
        """What is scraped, and how that goes."""
        found = self._api("targets", state="active")["activeTargets"]
        return [Target(one["scrapeUrl"], one["health"], one["lastError"]) for one in found]

    def metadata(self) -> dict[str, tuple[str, str]]:
        """Name to type and help of what was scraped."""
        found = self._api("metadata")
        return {name: (told[0]["type"], told[0]["help"]) for name, told in found.items()}

    def rules(self) -> list[str]:
        """Names of the loaded alerts and recording rules."""
        groups = self._api("rules")["groups"]
        return [rule["name"] for group in groups for rule in group["rules"]]

    def wait_value(
        self, expression: str, wanted: Callable[[float], bool], *, seconds: float = _WAIT_SECONDS
    ) -> float:
        """The value of ``expression`` once ``wanted`` says yes to it. Raises DeadlineError."""

        def look() -> float | None:
            value = self.value(expression)
            return value if value is not None and wanted(value) else None

        return self._wait(f"{expression} is as wanted", look, Deadline.after(seconds))

    def wait_scraped(self, *, seconds: float = _WAIT_SECONDS) -> None:
        """Until every target is up. Raises DeadlineError with what they say."""

        def look() -> bool | None:
            targets = self.targets()
            return (bool(targets) and all(one.health == "up" for one in targets)) or None

        self._wait("every target is up", look, Deadline.after(seconds))

    def _wait(self, what: str, look: Callable[[], _T | None], deadline: Deadline) -> _T:
        while (found := look()) is None:
            if deadline.passed:
                said = self.targets() if self._is_ready() else "it does not answer"
                raise DeadlineError(
                    f"Prometheus: not after {deadline.seconds:.0f} s: {what}; {said}"
                )
            time.sleep(_POLL_SECONDS)
        return found

    def _api(self, path: str, **arguments: str) -> Any:
        query = urllib.parse.urlencode(arguments)
        try:
            with urllib.request.urlopen(
                f"{self.url}/api/v1/{path}?{query}", timeout=_ANSWER_SECONDS
            ) as answer:
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(error.read().decode(errors="replace")) from None
        return document["data"]
