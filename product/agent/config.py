"""The agent's configuration: flag over ``/etc/kubesolo/update.conf`` over default.

The file holds ``key=value`` lines; blank lines and lines beginning with ``#`` are comments; keys
that this version does not know are ignored, so that a newer file does not stop an older agent.
A value that cannot be used does not stop the boot-time health check either (a bad file on the data
partition would otherwise make every release look broken): it is replaced by the default and named
in ``Config.problems``, which commands that change the node refuse to pass over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from product.agent.errors import ConfigError

MAX_BYTES = 64 * 1024


class Config(NamedTuple):
    """What the agent was told.

    ``server`` is the base URL of a release repository, ``pubkey`` the path of a PEM file,
    ``kube_system_settle`` is in seconds, ``auto_rollback_after`` is a number of failed health
    checks of an unconfirmed slot, 0 meaning that only the boot counter rolls back,
    ``healthcheck_deadline`` the seconds that a boot has to become healthy (120 where nothing is
    set, 300 on an image with Kubernetes; more than 3600 count as 3600; the settle time counts).
    ``datastore_restore`` says when a slot puts back its own copy of Kubernetes' datastore: minor,
    where a newer minor version wrote the present one; always, where any other newer release did;
    never. ``check_interval`` is how many minutes lie between two looks for updates that nobody asks
    for; 0: there are none.
    """

    server: str | None = None
    registry: str | None = None
    tag: str | None = None
    channel: str = "stable"
    maintenance_window: str = ""
    pubkey: str | None = None
    healthcheck_url: str | None = None
    auto_rollback_after: int = 3
    kube_system_settle: int = 30
    healthcheck_deadline: int | None = None
    datastore_restore: str = "minor"
    check_interval: int = 0
    problems: tuple[str, ...] = ()

    def require_usable(self) -> None:
        """Raise ConfigError where the file held a value that could not be used."""
        if self.problems:
            raise ConfigError(
                "; ".join(self.problems), hint="correct the file, or override the value by a flag"
            )


TEXT_KEYS = (
    "server",
    "registry",
    "tag",
    "channel",
    "maintenance_window",
    "pubkey",
    "healthcheck_url",
)
CHOICES = {"datastore_restore": ("minor", "always", "never")}
NUMBER_KEYS = (
    "auto_rollback_after",
    "kube_system_settle",
    "healthcheck_deadline",
    "check_interval",
)


def load_config(path: str, flags: Mapping[str, str | int | None] | None = None) -> Config:
    """Read ``path`` (which may be missing) and lay ``flags`` that are not None over it."""
    problems: list[str] = []
    values: dict[str, str | int] = {}
    overrides = {key: value for key, value in (flags or {}).items() if value is not None}
    for key, (number, text) in _read(path, problems).items():
        if key in overrides:
            continue
        if key in TEXT_KEYS:
            # An empty value means "as if it were not there", which for the window is "always".
            if text:
                values[key] = text
        elif key in CHOICES:
            if text in CHOICES[key]:
                values[key] = text
            elif text:
                allowed = ", ".join(CHOICES[key])
                problems.append(f"{path} line {number}: {key} is {text!r}, not one of {allowed}")
        elif key in NUMBER_KEYS:
            if text.isascii() and text.isdigit() and len(text) <= 9:
                values[key] = int(text)
            else:
                problems.append(f"{path} line {number}: {key} is {text!r}, not a whole number")
    values.update(overrides)
    # Each value was checked above; a mapping cannot carry its field's type.
    return Config(**values, problems=tuple(problems))  # type: ignore[arg-type]


def _read(path: str, problems: list[str]) -> dict[str, tuple[int, str]]:
    """Key to (line number, value); the last line of a key counts."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        problems.append(f"{path} cannot be read: {error.strerror}")
        return {}
    if len(data) > MAX_BYTES:
        problems.append(f"{path} is larger than {MAX_BYTES} bytes")
        return {}
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        problems.append(f"{path} is not UTF-8 at byte {error.start}")
        return {}
    found: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        key, equals, value = stripped.partition("=")
        if not equals:
            problems.append(f"{path} line {number}: {stripped!r} is not key=value")
            continue
        found[key.strip()] = (number, value.strip())
    return found
