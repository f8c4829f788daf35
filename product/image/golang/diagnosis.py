"""From what the Go command says to one error: what was tried, what was found, what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from product.image.errors import CacheError, DownloadError, ImageError, LockError, ToolError
from product.image.golang.run import Ended
from product.image.locks import RELOCK_COMMAND


class Attempt(NamedTuple):
    """What was tried. ``module`` is the folder as people name it, ``toolchain`` Go's version,
    ``proxy`` the value of GOPROXY that counted."""

    what: str
    module: str
    toolchain: str
    proxy: str = "off"

    @property
    def relock(self) -> str:
        """The command that renews the module's go.sum."""
        return f"{RELOCK_COMMAND} -- {self.module}"


class _Rule(NamedTuple):
    """An error for output that ``pattern`` is found in; ``found`` completes "cannot ...: "."""

    pattern: str
    error: type[ImageError]
    found: Callable[[re.Match[str], Attempt], str]
    hint: Callable[[Attempt], str]


_MODULE = r"(?P<module>[\w.!/~-]+@v[\w.+-]+)"

# The first that fits counts: what is certain stands before what may follow from it.
_RULES = (
    _Rule(
        r"no space left on device",
        CacheError,
        lambda _found, _tried: "no space left on the disk",
        lambda _tried: "free some space, or set KUBESOLO_CACHE to a larger disk",
    ),
    _Rule(
        rf"(?s){_MODULE}(?:/go\.mod)?: checksum mismatch.*?(?:go\.sum|sum\S*): +(?P<sum>\S+)",
        DownloadError,
        lambda found, tried: (
            f"what is offered as {found['module']} is not what was locked ({found['sum']}); "
            f"GOPROXY is {tried.proxy}"
        ),
        lambda _tried: "do not use it: take another GOPROXY, and ask the module's authors whether "
        "the version was published again",
    ),
    _Rule(
        r"(?P<said>(?:[\w.!/~@+-]+ requires |requires )?go ?>= ?(?P<go>[\w.]+)) \(running go",
        LockError,
        lambda found, tried: (
            f"it needs Go {found['go']}, and images/go/toolchain.json names {tried.toolchain} "
            f"({found['said']})"
        ),
        lambda tried: "lock a newer toolchain in images/go/toolchain.json, or a version of the "
        f"module that Go {tried.toolchain} builds",
    ),
    _Rule(
        rf"(?:{_MODULE}: )?missing go\.sum entry"
        r"(?: for module providing package (?P<package>\S+))?",
        LockError,
        lambda found, _tried: (
            f"go.sum is not complete: it lacks {found['module'] or found['package'] or 'an entry'}"
        ),
        lambda tried: f"run {tried.relock} and commit the result",
    ),
    _Rule(
        r"updates to go\.mod needed|go\.mod file indicates|malformed go\.sum|errors parsing "
        r"|reading \S*go\.mod: open",
        LockError,
        lambda _found, _tried: "go.mod and go.sum do not fit each other",
        lambda tried: f"run {tried.relock} and commit the result",
    ),
    _Rule(
        r"(?:no required module provides|cannot find module providing) package "
        r"(?P<package>[^\s;:]+)"
        r"|package (?P<std>\S+) is not in std"
        r"|(?P<folder>\S+): directory not found"
        r"|does not contain package (?P<inside>[^\s;:]+)",
        ToolError,
        lambda found, _tried: (
            "there is no package "
            f"{found['package'] or found['std'] or found['folder'] or found['inside']} in the "
            "modules that go.mod names"
        ),
        lambda tried: f"correct the package's name, or name its module in go.mod and run "
        f"{tried.relock}",
    ),
    _Rule(
        rf"{_MODULE}: .*(?:\b404\b|\b410\b|not found|unknown revision|file does not exist|no such "
        r"file or directory)(?!.*GOPROXY=off)",
        DownloadError,
        lambda found, tried: f"nobody has {found['module']}; GOPROXY is {tried.proxy}",
        lambda _tried: "where its authors removed it, set GOPROXY to a proxy that keeps modules, "
        "or copy go-mod/cache from the cache of somebody who has built it",
    ),
    _Rule(
        r"module lookup disabled by GOPROXY=(?P<value>\S+)",
        DownloadError,
        lambda _found, tried: f"it is not in the cache, and GOPROXY is {tried.proxy}",
        lambda _tried: "set GOPROXY to a proxy of Go modules (go env -w GOPROXY=...), or unset it",
    ),
    _Rule(
        r"dial tcp|no such host|connection refused|i/o timeout|TLS handshake|x509:|proxyconnect"
        r"|connection reset|network is unreachable|Client\.Timeout|Temporary failure",
        DownloadError,
        lambda _found, tried: f"nobody answers as GOPROXY={tried.proxy} says",
        lambda _tried: "check the network, GOPROXY, and http_proxy or https_proxy, then run again",
    ),
)  # fmt: skip


def explain(tried: Attempt, ended: Ended) -> ImageError:
    """The error for a Go command that failed."""
    words = redacted(ended.words)
    if ended.status < 0:
        return ToolError(
            f"cannot {tried.what}: the Go command was killed by signal {-ended.status}: {words}",
            hint="is there memory left? What was compiled is kept: run again to go on",
        )
    for rule in _RULES:
        if found := re.search(rule.pattern, words):
            return rule.error(
                f"cannot {tried.what}: {rule.found(found, tried)}\n{words}", hint=rule.hint(tried)
            )
    if tried.proxy == "off":
        return ToolError(f"cannot {tried.what}: the Go command failed: {words}")
    return DownloadError(
        f"cannot {tried.what}: what answers as GOPROXY={tried.proxy} says is no proxy of Go "
        f"modules, or is out of order: {words}",
        hint="check GOPROXY and whatever is between, then run again",
    )


def redacted(text: str) -> str:
    """``text`` without the names and passwords of its addresses."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)
