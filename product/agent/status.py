"""The status report: what ``kubesolo-update status --json`` prints.

Schema 1, one JSON object; absent values are null:

``schema``        1
``version``, ``architecture``  of the running image
``boot``          ``slot`` (A or B), ``boot_id``, ``mode`` (normal, debug, shell, or live:
                  from a medium, without slots), ``data``
``environment``   ``readable``, ``active_slot``, ``boot_counter``, ``boot_success`` (boolean)
``secure_boot``   "on" where the firmware enforces it, "off", "unsupported"; null where nothing can
                  be read of it
``boot_loader``   the release that the installed boot loader came with; null where nothing says it
``confirmed``     the slot that runs is the active one and committed
``pending``       another slot boots next
``slots``         A and B, each ``version``, ``digest`` (SHA-256 of the manifest), ``problem``
``update``        the state file's fields (see product.agent.records.state)
``quarantine``    digest to ``version``, ``reason``, ``since``
``last_boot_check``  what the boot-time service found (product.agent.health.report); null until then
``baseline``      what failed before the latest update (see product.agent.update.baseline), or null
``datastore``     on an image with Kubernetes: ``last``, who ran its datastore last and what was
                  done when it took over (see product.agent.datastore.restore), ``copies`` (slot to
                  ``version``, ``kubernetes``, ``taken_at``, ``size``) and ``asides``, directories
                  of what a restore replaced; else null
``maintenance``   ``window`` as configured, ``zone`` with its distance from UTC, ``open``, ``opens``
                  (seconds since 1970; null where it does not open within three days) and
                  ``problem``, why the window is not known, or null
``settings``      the effective settings of update.conf, key to ``value`` (a URL's login hidden,
                  all but the host of webhook_url, and a password or token as ***) and
                  ``source``: flag, file or default
``schedule``      ``interval`` in minutes (0: nobody looks unasked) and ``next_check`` (seconds
                  since 1970), or null where the service has not said it yet
``last_check``    the latest look for a release (see product.agent.records.last_check), with the
                  release that was offered; or null
``inhibitors``    who wants no update now: a list of ``name``, ``owner`` and ``reason``
``next_boot``     ``slot``, its ``version`` and ``why``: confirmed, trial, rollback; or unknown,
                  where the boot environment cannot be relied on, and the others are null
``unknown_keys``  sentences on keys of update.conf that this version does not know
``network``       ``interfaces`` and ``unbound``, devices without a driver, each with the fields
                  of product.agent.net.interfaces, ``default_routes``, ``name_servers``,
                  ``search``, ``problems`` and ``summary``, a sentence on each
``time``          ``synchronised``, ``source``, ``offset``, ``updated``, ``since``, ``from`` and
                  ``servers`` (see product.agent.net.time_sync)
``configuration`` the first-boot configuration: ``source``, ``instance_id``, ``outcome`` (see
                  product.cloudinit.record), ``problems`` (sentences, which are among those
                  below), ``files``, name to the paths written; null where no boot looked
``logs``          ``boot``, the number of this boot in the logs, and ``crashes``, what failed boots
                  left (see product.agent.logs.boots), the latest last
``ssh``           ``state`` (see product.agent.system.ssh), ``host_key`` as OpenSSH writes it and
                  its ``fingerprint``, or null
``available``     whether the last check was offered a release that does not run
``counters``      what happened since the installation (product.agent.records.counters)
``metadata_ends`` role to the end of the server's metadata as last fetched (seconds since 1970)
``vitals``        ``uptime`` (seconds), ``memory_total`` and ``memory_available`` (bytes)
``problems``      what an operator should know, as sentences
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import NamedTuple

from product.agent import maintenance
from product.agent.bootloader.boot import LIVE, SLOTS, other_slot
from product.agent.bootloader.protocol import Environment
from product.agent.config import Config
from product.agent.errors import AgentError, hide_logins
from product.agent.figures import read_figures
from product.agent.logs.boots import boot_number, list_crashes
from product.agent.net.interfaces import NO_ROUTE, Network
from product.agent.net.time_sync import TimeSync, read_time_sync
from product.agent.node import Node, boot_disk_copies
from product.agent.records.quarantine import Quarantine
from product.agent.records.state import TRIAL_PHASES, UpdateState
from product.agent.settings import KEYS, SECRET_KEYS, without_path
from product.agent.slots.content import BUSY
from product.agent.slots.store import SlotStore
from product.agent.system.clock import timestamp
from product.agent.system.files import read_bounded
from product.agent.system.firmware import secure_boot
from product.agent.trust.ends import ending

SCHEMA = 1
# How long DHCP may ask before a missing address is a problem.
SETTLED_SECONDS = 15
MAX_PROBLEMS = 64 * 1024
MAX_CONFIGURATION = 1024 * 1024
MAX_NUMBER = 64


class StatusReport(NamedTuple):
    """The published report; field names are its JSON keys."""

    schema: int
    version: str
    architecture: str
    boot: dict[str, str]
    environment: dict[str, object]
    secure_boot: str | None
    boot_loader: str | None
    confirmed: bool
    pending: bool
    slots: dict[str, dict[str, str | None]]
    update: dict[str, object]
    quarantine: dict[str, dict[str, str]]
    last_boot_check: dict[str, object] | None
    baseline: dict[str, object] | None
    datastore: dict[str, object] | None
    maintenance: dict[str, object]
    settings: dict[str, dict[str, object]]
    source: str | None
    schedule: dict[str, int | None]
    last_check: dict[str, str | None] | None
    inhibitors: list[dict[str, str]]
    next_boot: dict[str, str | None]
    unknown_keys: list[str]
    network: dict[str, list[object]]
    time: dict[str, object]
    configuration: dict[str, object] | None
    logs: dict[str, object]
    ssh: dict[str, str | None]
    available: bool
    counters: dict[str, object]
    metadata_ends: dict[str, float]
    vitals: dict[str, float | int]
    problems: list[str]


def collect(node: Node, config: Config) -> StatusReport:
    """Look at everything, change nothing. Raises BootInfoError."""
    boot, release = node.boot, node.release
    figures = read_figures(node)
    env, loaded = figures.environment, figures.loaded
    problems = [*boot.problems, *config.problems, *env.problems, *loaded.problems]
    problems += [
        f"{copy} is a copy of the boot disk: nothing is armed while both are there"
        for copy in boot_disk_copies(node)
    ]
    pending = env.valid and env.active_slot != boot.slot
    slots: dict[str, dict[str, str | None]] = {}
    store = SlotStore(node.paths, node.volumes, boot)
    for slot in ("A", "B"):
        if boot.live:
            slots[slot] = {"version": None, "digest": None, "problem": None}
            continue
        content = store.inspect(slot, wait=slot == boot.slot)
        version = content.manifest.version if content.manifest else None
        slots[slot] = {"version": version, "digest": content.digest, "problem": content.problem}
    if problem := slots[boot.slot]["problem"]:
        problems.append(f"the running slot {boot.slot}: {problem}")
    problems += _staged_elsewhere(loaded.state, slots)
    quarantine = {}
    try:
        entries = Quarantine(node.paths.quarantine).entries()
        quarantine = {digest: entry._asdict() for digest, entry in entries.items()}
    except AgentError as error:
        problems.append(error.message)
    report = figures.report
    found = report.get("problems") if report else None
    for text in [*(found if isinstance(found, list) else []), *_late_problems(node)]:
        if str(text) not in problems:
            problems.append(str(text))
    baseline = _baseline(node, problems)
    datastore = _datastore(node, problems)
    network = node.read_network()
    problems += _network_problems(node, network)
    sync = read_time_sync(node.paths)
    problems += _time_problems(node, sync)
    problems += ending(node.paths.metadata, node.clock.now())
    problems += _metrics_problems(node)
    return StatusReport(
        SCHEMA,
        release.version,
        release.architecture,
        {"slot": boot.slot, "boot_id": boot.boot_id, "mode": boot.mode, "data": boot.data},
        {
            "readable": env.valid,
            "active_slot": env.active_slot,
            "boot_counter": env.boot_counter,
            "boot_success": env.boot_success,
        },
        secure_boot(node.paths),
        _boot_loader(node),
        figures.confirmed,
        pending,
        slots,
        loaded.state.as_json(),
        quarantine,
        report,
        baseline,
        datastore,
        maintenance.find(node, config),
        _settings(config),
        config.source,
        _schedule(node, config),
        figures.last_check._asdict() if figures.last_check else None,
        _inhibitors(node, problems),
        _next_boot(env, slots),
        list(config.unknown),
        network.as_json(),
        {**sync.as_json(), "summary": sync.describe()},
        _configuration(node),
        _logs(node),
        _ssh(node, problems),
        figures.available,
        figures.counters.as_json(),
        figures.metadata_ends,
        figures.vitals,
        problems,
    )


def _settings(config: Config) -> dict[str, dict[str, object]]:
    sources = dict.fromkeys(config.from_file, "file") | dict.fromkeys(config.from_flags, "flag")
    found = {}
    for key in sorted(KEYS):
        value = getattr(config, key)
        if value and key in SECRET_KEYS:
            value = "***"
        elif isinstance(value, str):
            value = hide_logins(value) if key != "webhook_url" else without_path(value)
        found[key] = {"value": value, "source": sources.get(key, "default")}
    return found


def _schedule(node: Node, config: Config) -> dict[str, int | None]:
    """Without a source nobody looks, as product.agent.services.timer has it."""
    interval = config.check_interval if config.source else 0
    try:
        text = read_bounded(node.paths.next_check, MAX_NUMBER).decode().strip()
        moment = int(text) if interval and text.isdigit() else None
    except (OSError, ValueError):
        moment = None
    return {"interval": interval, "next_check": moment}


def _inhibitors(node: Node, problems: list[str]) -> list[dict[str, str]]:
    from product.agent.update.inhibitors import find_inhibitors

    try:
        return [one._asdict() for one in find_inhibitors(node.paths.inhibitors)]
    except AgentError as error:
        problems.append(error.message)
        return []


def _next_boot(env: Environment, slots: dict[str, dict[str, str | None]]) -> dict[str, str | None]:
    """By the boot contract (docs/architecture.md)."""
    slot, why = env.active_slot, "confirmed"
    if not env.valid or slot is None:
        return {"slot": None, "version": None, "why": "unknown"}
    if not env.boot_success:
        why = "trial" if env.boot_counter else "rollback"
        slot = slot if env.boot_counter else other_slot(slot)
    return {"slot": slot, "version": slots[slot]["version"], "why": why}


def _staged_elsewhere(state: UpdateState, slots: dict[str, dict[str, str | None]]) -> Iterator[str]:
    """Whether the slot still holds what the state says was written into it."""
    if state.phase not in TRIAL_PHASES or state.to_slot not in slots or state.to_digest is None:
        return
    content = slots[state.to_slot]
    if content["problem"] != BUSY and content["digest"] != state.to_digest:
        found = content["problem"] or f"it holds {content['version']}"
        yield (
            f"the update to {state.to_version} is {state.phase}, and slot {state.to_slot} does not "
            f"hold it ({found}); kubesolo-update apply writes it again"
        )


def _baseline(node: Node, problems: list[str]) -> dict[str, object] | None:
    if not os.path.exists(node.paths.baseline):
        return None
    from product.agent.update.baseline import read_baseline

    try:
        baseline = read_baseline(node)
    except AgentError as error:
        problems.append(error.message)
        return None
    return baseline.as_json() if baseline else None


def _datastore(node: Node, problems: list[str]) -> dict[str, object] | None:
    if not os.path.exists(node.paths.payload):
        return None
    from product.agent.datastore.copies import asides, read_copy
    from product.agent.datastore.restore import read_marker

    last, copies = None, {}
    try:
        marker = read_marker(node.paths)
        last = marker._asdict() if marker else None
    except AgentError as error:
        problems.append(error.message)
    for slot in SLOTS:
        try:
            if copy := read_copy(node.paths, slot):
                copies[slot] = {
                    key: value
                    for key, value in copy._asdict().items()
                    if key in ("version", "kubernetes", "taken_at", "size")
                }
        except AgentError as error:
            problems.append(error.message)
    return {"last": last, "copies": copies, "asides": asides(node.paths)}


def _network_problems(node: Node, network: Network) -> list[str]:
    """What could not be set; what has no address, unless one address is there or may still come."""
    found = [f"network: {problem}" for problem in network.problems]
    waited = [entry.waited for entry in network.interfaces if entry.waited is not None]
    if network.has_address:
        return [*found, f"network: {NO_ROUTE}"] if network.lacks_route else found
    if waited and max(waited) < SETTLED_SECONDS:
        return found
    return found + [f"network: {fault}" for fault in network.faults()]


def _time_problems(node: Node, sync: TimeSync) -> list[str]:
    try:
        with open(f"{node.paths.proc}/uptime") as file:
            uptime = float(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return []
    return [problem] if (problem := sync.problem(uptime)) else []


def _late_problems(node: Node) -> list[str]:
    """What services noted since boot.json was written, spelt as early boot spells it there."""
    try:
        text = read_bounded(node.paths.problems, MAX_PROBLEMS).decode(errors="replace")
    except (OSError, ValueError):
        return []
    return text.translate({ord('"'): None, ord("\\"): None}).splitlines()


def _metrics_problems(node: Node) -> list[str]:
    """What the services that serve the figures said last; their files are empty while they work."""
    found = []
    for name in ("problem", "server-problem"):
        try:
            text = read_bounded(f"{node.paths.metrics}/{name}", MAX_PROBLEMS).decode(
                errors="replace"
            )
        except (OSError, ValueError):
            continue
        lines = [line for line in text.splitlines() if line.strip()]
        # A traceback says it at its end.
        found += [f"metrics: {lines[-1].strip().removeprefix('error: ')}"] if lines else []
    return found


def _logs(node: Node) -> dict[str, object]:
    crashes = list_crashes(node.paths)
    return {"boot": boot_number(node.paths), "crashes": [crash._asdict() for crash in crashes]}


def _ssh(node: Node, problems: list[str]) -> dict[str, str | None]:
    from product.agent.system.ssh import read_server

    server = read_server(node.paths)
    if server.problem:
        problems.append(server.problem)
    return {
        "state": server.state,
        "host_key": server.host_key,
        "fingerprint": server.fingerprint,
    }


def _boot_loader(node: Node) -> str | None:
    """The release whose boot loader is installed; None where nothing says it."""
    from product.agent.update.loader import read_installed

    try:
        installed = read_installed(node)
    except (AgentError, OSError):
        return None
    return installed.version if installed else None


def _configuration(node: Node) -> dict[str, object] | None:
    """What stage 45 left; None where there is nothing, or garbage."""
    try:
        document = json.loads(read_bounded(node.paths.configuration, MAX_CONFIGURATION))
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def as_text(report: StatusReport) -> str:
    """The report for people."""
    slot = report.boot["slot"]
    trust = "confirmed" if report.confirmed else "on trial"
    if report.pending:
        trust = f"slot {report.environment['active_slot']} boots next"
    live = report.boot["mode"] == LIVE
    where = "live, from a medium: nothing to update" if live else f"slot {slot}, {trust}"
    lines = [f"KubeSolo OS {report.version} ({report.architecture}), {where}"]
    if report.environment["boot_success"] is False:
        lines[0] += f", {report.environment['boot_counter']} tries left"
    for name, content in report.slots.items() if not live else ():
        what = content["version"] or "empty"
        lines.append(f"slot {name}: {what}" + (f" ({p})" if (p := content["problem"]) else ""))
    lines.append(f"boot loader: {report.boot_loader or 'unknown'}")
    lines.append(f"secure boot: {report.secure_boot or 'unknown'}")
    update = report.update
    lines.append(f"update: {update['phase']}" + _versions(update))
    if update["last_error"]:
        lines.append(f"  {update['last_error']}")
    if update["bypassed"]:
        lines.append(f"  bypassed {update['bypassed']}")
    if update["health_check_failures"]:
        lines.append(f"  failed health checks: {update['health_check_failures']}")
    checks = report.last_boot_check.get("health") if report.last_boot_check else None
    for check in checks if isinstance(checks, list) else []:
        if isinstance(check, dict) and check.get("result") in ("fail", "known"):
            before = f"; before the update: {check['before']}" if check.get("before") else ""
            lines.append(f"{check.get('name')}: {check['result']} ({check.get('reason')}{before})")
    lines += [f"network: {line}" for line in report.network["summary"]]
    lines.append(f"next boot: {_next_boot_text(report)}")
    lines.append(f"releases come from: {report.source or 'nowhere: none is configured'}")
    lines.append(f"last check: {_last_check_text(report)}")
    for one in report.inhibitors:
        lines.append(f"inhibited by {one['name']} of {one['owner']}: {one['reason']}")
    if access := _access_text(report.settings):
        lines.append(f"access: {access}")
    lines.append(f"maintenance window: {maintenance.as_text(report.maintenance)}")
    if report.configuration and report.configuration.get("source"):
        lines.append(
            f"configuration: {report.configuration.get('outcome')}, of "
            f"{report.configuration['source']}, instance {report.configuration.get('instance_id')}"
        )
    lines.append(f"time: {report.time['summary']}")
    last = report.datastore.get("last") if report.datastore else None
    if isinstance(last, dict) and last.get("event"):
        lines.append(f"datastore: {last['event']}")
    crashes = report.logs["crashes"]
    for crash in crashes if isinstance(crashes, list) else []:
        if crash["found_by"] == report.logs["boot"]:
            lines.append(f"a failed boot before this one: {crash['path']} ({crash['reason']})")
    if report.ssh["fingerprint"]:
        lines.append(f"ssh: {report.ssh['state']}, host key {report.ssh['fingerprint']}")
    for digest, entry in report.quarantine.items():
        lines.append(f"quarantined: {entry['version']} {digest[:12]} ({entry['reason']})")
    lines += [f"ignored: {text}" for text in report.unknown_keys]
    lines += [f"problem: {problem}" for problem in report.problems]
    return "\n".join(lines)


def _next_boot_text(report: StatusReport) -> str:
    slot, version, why = (report.next_boot[key] for key in ("slot", "version", "why"))
    if slot is None:
        return "unknown: the boot loader decides"
    return f"slot {slot}, {version or 'which holds no release'} ({why})"


def _access_text(settings: dict[str, dict[str, object]]) -> str:
    """How the node reaches its source, where that is said; empty without any of it."""
    value = {key: entry["value"] for key, entry in settings.items()}
    parts = [
        f"through the proxy {value['proxy']}" if value["proxy"] else "",
        f"authorities of {value['ca_certificates']}" if value["ca_certificates"] else "",
        "a client certificate" if value["client_certificate"] else "",
        f"the login of {value['username']}" if value["username"] else "",
        "a bearer token" if value["bearer_token"] else "",
        f"at most {value['rate_limit']} bytes a second" if value["rate_limit"] else "",
        "signed with cosign" if value["require_cosign"] == "yes" else "",
    ]
    return ", ".join(filter(None, parts))


def _last_check_text(report: StatusReport) -> str:
    found, schedule = report.last_check, report.schedule
    text = "never"
    if found:
        version = f" {found['version']}" if found["version"] else ""
        reason = f" ({found['code']}: {found['reason']})" if found["code"] else ""
        text = f"{found['time']}: {found['outcome']}{version}{reason}"
    if not schedule["interval"]:
        return f"{text}; there is no schedule"
    if schedule["next_check"] is None:
        return f"{text}; then every {schedule['interval']} minutes"
    return f"{text}; the next one {timestamp(schedule['next_check'])}"


def _versions(update: dict[str, object]) -> str:
    if not update["to_version"]:
        return ""
    return f", {update['from_version']} to {update['to_version']}"
