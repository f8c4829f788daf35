"""What the harness knows of one operating system, as one value that its project gives.

A project names its profile in its pytest configuration: ``harness_profile = "module:attribute"``.
Everything that a profile leaves out has a default that fits any Linux.
"""

from __future__ import annotations

import configparser
import importlib
import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.tools import HostTools, installed_tools

# pytest's option, and the environment's variable, that name a profile.
INI, VARIABLE = "harness_profile", "HARNESS_PROFILE"
# Where pytest's options lie: file, and the tables or the section in it.
_FILES = {
    "pytest.toml": ("pytest",),
    "pytest.ini": ("pytest",),
    "pyproject.toml": ("tool", "pytest", "ini_options"),
    "tox.ini": ("pytest",),
    "setup.cfg": ("tool:pytest",),
}
# Groups that an expression of a profile may have; everything else in one is a mistake.
_GROUPS = {
    "ready": {"version", "slot", "confirmed"},
    "boot": {"slot", "counter", "success"},
    "rollback": {"slot"},
    "given_up": set[str](),
    "slot_parameter": {"slot"},
    "host_key": {"fingerprint"},
}


class ProfileError(HarnessError):
    """A profile cannot be found, or says what cannot be."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A console line that means that the system failed, beside those that every Linux has.

    ``value`` is what the line looks like; scenarios expect a failure by the object itself.
    """

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Moment:
    """A console line that the timeline's picture marks: ``label`` may use its groups, {0} and so
    on; ``tone`` is good, neutral or warning."""

    expression: str
    label: str
    tone: str = "neutral"


@dataclass(frozen=True, slots=True)
class Menu:
    """The boot menu: its entries from the top down; ``instead`` is what comes without a menu."""

    entries: tuple[str, ...]
    instead: str


def default_cache() -> Path:
    """``$XDG_CACHE_HOME/kubesolo-os-harness``, else below ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "kubesolo-os-harness"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One operating system, and the project that tests it.

    Expressions are searched in each line of the console. Their named groups are facts; those in
    parentheses are optional.

    ========== =================================================================================
    ready      the line that says that a boot is over: (version), (slot), (confirmed) 0 or 1.
               None: ready is who answers on the command channel
    boot       the boot loader's decision: (slot), (counter), (success) 0 or 1.
               None: each start and each reset is a boot
    rollback   the boot loader goes back to a slot: (slot)
    given_up   a line that says why a boot failed, where no failure pattern does
    failures   lines that end any wait and fail a scenario, beside harness.journal.patterns
    phases     pairs of a phase of a boot (harness.report.story.Phase) and its first line
    moments    lines that the picture of a timeline marks
    ========== =================================================================================

    ``reboot`` is the command for a reboot in good order, ``status`` one that prints a JSON object,
    ``evidence`` are shell commands whose output is kept after a failure. ``channel`` says whether
    the system has the channel's daemon (``product/channel``); ``smbios`` (OEM strings) and
    ``fw_cfg`` (pairs of a name below ``opt/`` and a text) are what a machine's firmware hands to
    the system, which is how the channel is offered. ``slot_parameter`` finds the slot in the
    kernel's command line, ``boot_text`` is a fixed part of what the console shows once the boot
    loader has decided.

    ``host_key`` finds the ``fingerprint``, SHA256:..., of the SSH server's key on the console, by
    which a board in a lab is known. ``provision`` makes of an image, a folder to work in and a
    public key as OpenSSH writes it the file that a board's disk is written with, whose system lets
    the key's owner in; it raises UnsupportedError for an image that has no SSH server.

    ``tools`` gives the programs for a purpose: "qemu", "board", "registry" or "tpm". ``cache`` is
    where snapshots, runs and measurements lie. ``raspberry`` makes the machine of a specification
    with that field, as Machine does. ``errors`` are the project's own errors whose
    message is enough, with neither traceback nor kind. ``rerun`` is the command that runs a test
    again: {test} and {arch} are put in, quoted for a shell.
    """

    name: str = "linux"
    ready: str | None = None
    boot: str | None = None
    rollback: str | None = None
    given_up: str | None = None
    failures: tuple[Failure, ...] = ()
    phases: tuple[tuple[str, str], ...] = ()
    moments: tuple[Moment, ...] = ()
    reboot: tuple[str, ...] = ("/sbin/reboot",)
    status: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ("dmesg | tail -n 50", "ps", "mount", "df")
    channel: bool = True
    smbios: tuple[str, ...] = ()
    fw_cfg: tuple[tuple[str, str], ...] = ()
    slot_parameter: str | None = None
    boot_text: str = ""
    host_key: str | None = None
    provision: Callable[[Path, Path, str], Path] | None = None
    menu: Menu | None = None
    tools: Callable[[str], HostTools] = installed_tools
    cache: Callable[[], Path] = default_cache
    raspberry: Callable[..., object] | None = None
    errors: tuple[type[Exception], ...] = ()
    rerun: str = "pytest {test} --arch {arch}"

    def __post_init__(self) -> None:
        """Raise ProfileError for an expression that is none, and for a group that means nothing."""
        for name, allowed in _GROUPS.items():
            text = getattr(self, name)
            if text is not None:
                unknown = set(self._compiled(name, text).groupindex) - allowed
                if unknown:
                    raise ProfileError(
                        f"{name} of the profile {self.name} has the groups "
                        f"{', '.join(sorted(unknown))}, which mean nothing",
                        hint=f"it may have {', '.join(sorted(allowed)) or 'none'}",
                    )
        for failure in self.failures:
            self._compiled(f"failure {failure.name}", failure.value)
        for phase, text in self.phases:
            self._compiled(f"phase {phase}", text)
        for moment in self.moments:
            self._compiled(f"moment {moment.label}", moment.expression)
        if self.ready is None and not self.channel:
            raise ProfileError(
                f"the profile {self.name} has neither a ready line nor the channel",
                hint="set ready to an expression that matches the system's last line of a boot",
            )

    def _compiled(self, name: str, text: str) -> re.Pattern[str]:
        try:
            return re.compile(text)
        except re.error as error:
            raise ProfileError(
                f"{name} of the profile {self.name} is no regular expression: {error}: {text!r}"
            ) from None

    def failure_in(self, line: str) -> Failure | None:
        """The failure of this system that a console line reports, or None."""
        return next((f for f in self.failures if re.search(f.value, line)), None)

    def words(self) -> dict[str, Any]:
        """What a timeline needs to be told without the profile; goes into ``timeline.json``."""
        return {
            "ready": self.ready,
            "boot": self.boot,
            "phases": [list(phase) for phase in self.phases],
            "moments": [[m.expression, m.label, m.tone] for m in self.moments],
        }


# Any Linux that has the channel's daemon.
LINUX = Profile()


def load(reference: str) -> Profile:
    """The profile that ``module:attribute`` names. Raises ProfileError."""
    module, colon, attribute = reference.partition(":")
    if not (module and colon and attribute):
        raise ProfileError(
            f"{reference!r} names no profile", hint="write module:attribute, as my_os.profile:MY_OS"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ProfileError(
            f"the profile {reference} cannot be imported: {error}",
            hint="pytest looks for modules where the option pythonpath of its configuration says",
        ) from None
    except AttributeError:
        raise ProfileError(f"the module {module} has no {attribute}, the profile's name") from None
    if not isinstance(found, Profile):
        raise ProfileError(f"{reference} is a {type(found).__name__}, and no Profile")
    return found


def facts(expression: str | None, line: str) -> Mapping[str, str] | None:
    """The named groups that ``expression`` finds in ``line``; None where it does not match."""
    match = re.search(expression, line) if expression is not None else None
    return None if match is None else {k: v for k, v in match.groupdict().items() if v is not None}


def chosen(reference: str | None = None, start: Path | None = None) -> Profile:
    """The profile that ``reference`` names, else $HARNESS_PROFILE, else pytest's configuration in
    ``start`` (default: the working directory) or above it; else LINUX. Raises ProfileError.
    """
    if named := reference or os.environ.get(VARIABLE):
        _importable(Path.cwd())
        return load(named)
    folder = (start or Path.cwd()).absolute()
    for place in (folder, *folder.parents):
        options = _pytest_options(place)
        if named := options.get(INI):
            paths = options.get("pythonpath", [])
            for path in paths.split() if isinstance(paths, str) else paths:
                _importable(place / path)
            _importable(place)
            return load(str(named))
    return LINUX


def _importable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _pytest_options(folder: Path) -> Mapping[str, Any]:
    """What pytest's configuration files in ``folder`` say; the first that has our option counts."""
    for name, sections in _FILES.items():
        path = folder / name
        if not path.is_file():
            continue
        try:
            if path.suffix == ".toml":
                found: Any = tomllib.loads(path.read_text())
                for section in sections:
                    found = found.get(section, {})
            else:
                parser = configparser.ConfigParser(interpolation=None)
                parser.read(path)
                found = dict(parser[sections[0]]) if parser.has_section(sections[0]) else {}
        except (OSError, ValueError, configparser.Error) as error:
            raise ProfileError(f"{path} cannot be read: {error}") from None
        if isinstance(found, dict) and INI in found:
            return found
    return {}
