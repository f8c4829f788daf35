"""The table of services is what the run scripts say, and the audit's what its rules say."""

from __future__ import annotations

import re
import shlex

from scenarios.hardening.services import LOGS, Rights, run_scripts, table

# Said in words: it is another path on each machine.
DEVICES = {"watchdog": "the watchdog's device", LOGS: "its folder in `/var/log`"}
# They change their users themselves.
USERS = {"time": "_chrony", "dhcp": "dhcpcd"}


def _said(name: str, script: str) -> Rights:
    """What a run script's line says, as a row would."""
    joined = script.replace("\\\n", " ")
    match = re.search(r"^confine\b([^\n]*)", joined, re.MULTILINE)
    if match is None:
        return Rights("root", None, "any")
    words = iter(shlex.split(match[1].partition(" -- ")[0], comments=True))
    user, caps, places = USERS.get(name, "root"), frozenset[str](), []
    for word in words:
        if word == "--user":
            user = next(words)
        elif word == "--caps":
            caps = frozenset(next(words).split(","))
        elif word == "--say":
            places.append("say")
        elif word == "--mounts":
            places.append("any")
        elif word == "--write":
            places.append(f"`{next(words)}`")
    return Rights(user, caps, DEVICES.get(name) or " ".join(places) or "nothing")


def test_rows_and_run_scripts_say_the_same() -> None:
    scripts = dict(run_scripts())
    assert {name: _said(name, script) for name, script in scripts.items()} == table()
