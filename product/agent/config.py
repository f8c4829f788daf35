"""The agent's configuration: flag over ``/etc/kubesolo/update.conf`` over default.

The file holds ``key=value`` lines; blank lines and lines beginning with ``#`` are comments. A byte
order mark, CRLF and quotes around a value are accepted. Keys that this version does not know are
ignored, so that a newer file does not stop an older agent, and named in ``Config.unknown``; one
that is nearly a known key is a mistake. What cannot be used does not stop the boot-time health
check either (a bad file on the data partition would otherwise make every release look broken): it
is replaced by the default and named in ``Config.problems``, which commands that change the node
refuse to pass over. Where it may have been the maintenance window, ``Config.window_unknown`` says
so, and the window counts as closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from product.agent.errors import ConfigError, has_login, hide_logins
from product.agent.settings import (
    CHOICES,
    KEYS,
    LOGIN_KEYS,
    NUMBER_KEYS,
    SECRET_KEYS,
    bytes_a_second,
    check_together,
    check_value,
    is_same_source,
    nearest_key,
    registry_address,
    shown,
    shown_line,
)

MAX_BYTES = 64 * 1024
# A file that is all mistakes names the first of them.
MAX_PROBLEMS = 20
_WINDOW = "maintenance_window"
_KEY_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class Config(NamedTuple):
    """What the agent was told.

    ``server`` is the base URL of a release repository; or ``registry`` names an OCI registry and a
    repository of it, and ``tag`` one of its tags or digests. ``pubkey`` is the path of a PEM file,
    ``kube_system_settle`` is in seconds, ``auto_rollback_after`` is a number of failed health
    checks of an unconfirmed slot, 0 meaning that only the boot counter rolls back,
    ``healthcheck_deadline`` the seconds that a boot has to become healthy (120 where nothing is
    set, 300 on an image with Kubernetes; more than 3600 count as 3600; the settle time counts).
    ``datastore_restore`` says when a slot puts back its own copy of Kubernetes' datastore: minor,
    where a newer minor version wrote the present one; always, where any other newer release did;
    never. ``check_interval`` is how many minutes lie between two looks for updates that nobody asks
    for; 0: there are none. ``check_jitter`` is within how many minutes the first looks of many
    nodes lie, a tenth of the interval where nothing is set. ``pod_servers`` are servers of the node
    or its link that a pod may name all the same, by host or host:port; ``server_from_pod``: a pod
    named ``server``. ``hook_timeout`` is in seconds, for each hook; steps of an update are posted
    to ``webhook_url``. ``proxy`` is what servers are reached through, but those that ``no_proxy``
    names; ``ca_certificates`` is a PEM file of authorities beside the system's. ``username`` and
    ``password``, or ``bearer_token``, are sent to the server that the file names, and to no other,
    and so is ``client_certificate`` with its ``client_key`` (PEM files). ``rate_limit`` is in bytes
    a second. ``cosign_key`` is the PEM file of a public key that must have signed what a registry
    serves where ``require_cosign`` is yes. ``usb_updates`` says what becomes of a stick with
    releases that is plugged in: install, check (say what it has), no. Metrics are served at each
    of ``metrics_address`` (none: not at all). ``deltas`` is no where whole files are wanted.
    ``from_file`` and ``from_flags`` are the keys that have their values from there.
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
    pod_servers: str = ""
    server_from_pod: bool = False
    check_jitter: int | None = None
    hook_timeout: int = 60
    webhook_url: str | None = None
    proxy: str | None = None
    no_proxy: str = ""
    ca_certificates: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    username: str | None = None
    password: str | None = None
    bearer_token: str | None = None
    rate_limit: str | None = None
    cosign_key: str | None = None
    require_cosign: str = "no"
    usb_updates: str = "install"
    metrics_address: str = "127.0.0.1"
    metrics_port: int = 9100
    deltas: str = "yes"
    from_file: tuple[str, ...] = ()
    from_flags: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    window_unknown: str | None = None

    @property
    def source(self) -> str | None:
        """Where releases come from, for people: without a login. None where nothing says it."""
        if self.server:
            return hide_logins(self.server)
        return registry_address(self.registry, self.tag) if self.registry else None

    @property
    def bytes_a_second(self) -> int | None:
        """``rate_limit`` as a number; None where there is no limit."""
        return bytes_a_second(self.rate_limit) if self.rate_limit else None

    def require_usable(self) -> None:
        """Raise ConfigError where the file held a value that could not be used."""
        if self.problems:
            raise ConfigError(
                "; ".join(self.problems), hint="correct the file, or override the value by a flag"
            )


class _Loader:
    """Collects values, and what is wrong with the rest."""

    def __init__(self, path: str, overridden: frozenset[str]) -> None:
        self.path = path
        self.overridden = overridden
        self.values: dict[str, str | int] = {}
        self.problems: list[str] = []
        self.unknown: list[str] = []
        self.window_unknown: str | None = None
        # Where the file says that releases come from, whatever a flag says.
        self.sources: list[str] = []
        self._lines: dict[str, int] = {}

    def problem(self, text: str, key: str | None) -> None:
        """Note what cannot be used; ``key`` is what it may have been, None where nobody knows."""
        if key in self.overridden:
            return
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(text)
        if key in (_WINDOW, None) and _WINDOW not in self.overridden and not self.window_unknown:
            self.window_unknown = text

    def file(self) -> None:
        """Take the whole file, which may be missing."""
        try:
            with open(self.path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return
        except OSError as error:
            self.problem(f"{self.path} cannot be read: {error.strerror}", None)
            return
        if len(data) > MAX_BYTES:
            self.problem(f"{self.path} is larger than {MAX_BYTES} bytes", None)
            return
        if b"\0" in data or data.startswith((b"\xff\xfe", b"\xfe\xff")):
            self.problem(f"{self.path} is UTF-16 or binary: save it as UTF-8", None)
            return
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.problem(f"{self.path} is not UTF-8 at byte {error.start}", None)
            return
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for number, line in enumerate(lines, start=1):
            stripped = line.strip()
            if stripped and not stripped.startswith("#"):
                self._line(number, stripped)

    def _line(self, number: int, line: str) -> None:
        where = f"{self.path} line {number}"
        key, equals, value = (part.strip() for part in line.partition("="))
        near = nearest_key(key)
        meant = f", perhaps {near} is meant" if near else ""
        if not equals:
            self.problem(f"{where}: {shown_line(line)} is not key=value{meant}", near)
        elif key in KEYS:
            self._known(number, key, value)
        elif near or not key or not _KEY_CHARACTERS.issuperset(key):
            self.problem(f"{where}: {shown_line(key)} is no key{meant}", near)
        elif len(self.unknown) < MAX_PROBLEMS:
            self.unknown.append(
                f"{where}: {shown_line(key)} is no key of this version and is ignored"
            )

    def _known(self, number: int, key: str, value: str) -> None:
        if (first := self._lines.setdefault(key, number)) != number:
            text = f"{self.path} line {number}: {key} is set in line {first} already"
            self.problem(text, key)
        if key in ("server", "registry"):
            self.sources.append(value.strip("\"'"))
        if key in self.overridden:
            return
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            # Blanks are a part of a password that stands in quotes, and of nothing else.
            value = value[1:-1] if key in SECRET_KEYS else value[1:-1].strip()
        self.take(key, value, f"{self.path} line {number}: ")

    def take(self, key: str, value: str, where: str) -> None:
        """Use a value of the file if that is possible."""
        # An empty value means "as if it were not there", which for the window is "always".
        if not value and key not in NUMBER_KEYS:
            self.values.pop(key, None)
            return
        if reason := check_value(key, value):
            found = "a value" if key in SECRET_KEYS else shown(value)
            self.problem(f"{where}{key} is {found}, {reason}", key)
            if key == _WINDOW:
                self.values[key] = value
        else:
            self.values[key] = int(value) if key in NUMBER_KEYS else value


def load_config(
    path: str,
    flags: Mapping[str, str | int | None] | None = None,
    *,
    server_from_pod: bool = False,
) -> Config:
    """Read ``path`` (which may be missing) and lay ``flags`` that are not None over it.

    The login of the file is for the file's own server: another one gets none of it. One that a pod
    named gets it only where the file names the same.
    """
    overrides = {key: value for key, value in (flags or {}).items() if value is not None}
    loader = _Loader(path, frozenset(overrides))
    loader.file()
    if not _is_own_source(loader.sources, overrides, server_from_pod):
        for key in LOGIN_KEYS:
            loader.values.pop(key, None)
    _prefer_given_source(loader.values, overrides)
    from_file = tuple(sorted(loader.values.keys() - overrides.keys()))
    loader.values.update(overrides)
    for key, value in overrides.items():
        if value != "" and (reason := check_value(key, str(value))):
            loader.problems.append(f"the given {key} is {shown(str(value))}, {reason}")
    if has_login(str(overrides.get("proxy") or "")):
        loader.problems.append(
            "the given proxy has a login, which every process could see: set proxy= in the file"
        )
    for key, reason in check_together(loader.values):
        if key in overrides:
            loader.problems.append(f"the given {key} {reason}")
        else:
            loader.problem(f"{path}: {key} {reason}", key)
    # Each value was checked above; a mapping cannot carry its field's type.
    return Config(
        **loader.values,  # type: ignore[arg-type]
        from_file=from_file,
        from_flags=tuple(sorted(overrides)),
        server_from_pod=server_from_pod,
        problems=tuple(loader.problems),
        unknown=tuple(loader.unknown),
        window_unknown=loader.window_unknown,
    )


def _prefer_given_source(values: dict[str, str | int], overrides: Mapping[str, str | int]) -> None:
    """Take away the file's source where a flag names one of the other kind."""
    if overrides.get("server"):
        values.pop("registry", None)
        values.pop("tag", None)
    if overrides.get("registry"):
        values.pop("server", None)


def _is_own_source(
    named: Sequence[str], overrides: Mapping[str, str | int], from_pod: bool
) -> bool:
    """Whether the releases come from where the file says, as far as it says it."""
    if not any(named):
        return not from_pod
    given = [str(overrides[key]) for key in ("server", "registry") if overrides.get(key)]
    return all(any(is_same_source(one, other) for other in named) for one in given)


__all__ = ["CHOICES", "KEYS", "MAX_BYTES", "Config", "check_value", "load_config"]
