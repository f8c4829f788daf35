"""What an operator sets around updates: inhibitors, hooks, the schedule, and what status says."""

from __future__ import annotations

from collections.abc import Callable

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.releases import Releases
from scenarios.steps import FAILED, REFUSED, Update

Serve = Callable[..., Update]

HOOKS = "/etc/kubesolo/hooks.d"
INHIBITOR = "/run/kubesolo/inhibit.d/backup"
LOG = "/var/lib/kubesolo/hooks.log"
TELL = f'#!/bin/sh\necho "$KUBESOLO_EVENT $KUBESOLO_TO_VERSION" >> {LOG}\n'


def _hook(node: Node, name: str, text: str) -> None:
    node.succeed(["mkdir", "-p", HOOKS])
    node.put(text, f"{HOOKS}/{name}", mode=0o755)


@scenario()
def test_an_inhibitor_keeps_an_update_away(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    node.succeed(f"mkdir -p {INHIBITOR.rpartition('/')[0]}")
    node.put(b"owner=backup\nreason=until three\n", INHIBITOR)
    done = update.refused("inhibitor", exit=REFUSED)
    assert b"backup of backup: until three" in done.stderr
    node.fail(["kubesolo-update", "apply", "--force"], exit=REFUSED)
    node.succeed(["rm", INHIBITOR])
    update.apply()
    assert node.status().last_check.outcome == "available"


@scenario()
def test_hooks_run_around_an_update(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    _hook(node, "before-apply", "#!/bin/sh\nexit 3\n")
    update.refused("hook-failed", exit=FAILED)
    for step in ("before-apply", "after-apply", "after-commit", "after-rollback"):
        _hook(node, step, TELL)
    update.install()
    node.succeed(["kubesolo-update", "rollback"])
    version = releases.good.version
    steps = ("before-apply", "after-apply", "after-commit", "after-rollback")
    assert node.succeed(["cat", LOG]).text.splitlines() == [f"{step} {version}" for step in steps]
