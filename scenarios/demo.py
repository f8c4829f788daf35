"""The main job, once, for people to watch: ``./noxw -s demo [-- --arch aarch64]``.

Builds the image and three signed releases, boots, updates 0.1.0 to 0.2.0, then applies a release
whose init panics and watches the boot loader return. Every part is the one that the scenarios use.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from harness.faults.http import WebServer
from harness.journal.patterns import Pattern
from harness.qemu.arch import Arch
from harness.report.html import write_report
from harness.target.node import Node
from product.errors import KubesoloError
from product.image import progress, recipe
from product.image.build import Builder
from product.image.cache import Cache
from product.image.tools import HostTools, host_arch
from scenarios.local import Bench
from scenarios.releases import Release, Releases
from scenarios.steps import Update, offer

OUTPUT = Path("out/demo")
README = Path("README.md")
PICTURE = Path("docs/rollback.svg")


@dataclass
class Story:
    """What happened, in order: description, seconds, outcome."""

    rows: list[tuple[str, float, str]] = field(default_factory=list)

    @contextmanager
    def chapter(self, title: str) -> Iterator[list[str]]:
        """Time one part; the yielded list takes its outcome."""
        outcome: list[str] = []
        begun = time.monotonic()
        with progress.step(title):
            yield outcome
        self.rows.append((title, time.monotonic() - begun, "; ".join(outcome)))

    def plain(self) -> str:
        """The story as README shows it."""
        rows = [("what", "seconds", "outcome")]
        rows += [(what, f"{seconds:.1f}", outcome) for what, seconds, outcome in self.rows]
        width = max(len(row[0]) for row in rows)
        lines = (f"{what:<{width}}  {seconds:>7}  {outcome}" for what, seconds, outcome in rows)
        return "".join(f"{line.rstrip()}\n" for line in lines)

    def table(self, title: str) -> Table:
        """The story as a table."""
        table = Table(title=title)
        for name in ("what", "seconds", "outcome"):
            table.add_column(name, justify="right" if name == "seconds" else "left")
        for what, seconds, outcome in self.rows:
            table.add_row(what, f"{seconds:.1f}", outcome)
        return table


def _update(node: Node, release: Release, server: WebServer) -> Update:
    offer(node, release, server)
    return Update(node, release, server)


def tell(node: Node, releases: Releases, story: Story) -> None:
    """The main job on one node."""
    with story.chapter("boot 0.1.0") as outcome:
        ready = node.boot()
        outcome.append(f"slot {ready.slot}, {ready.version}, confirmed")
    first = releases.sign("demo", releases.good.slot)
    with WebServer(first.repository) as server:
        update = _update(node, first, server)
        with story.chapter("apply 0.2.0 to slot B, verify, arm") as outcome:
            update.stage()
            outcome.append("signed, downloaded, read back, boot counter 3")
        with story.chapter("boot 0.2.0, health check, commit") as outcome:
            with node.expect_boots(1) as boots:
                node.reboot()
                ready = node.wait_ready()
            if (ready.slot, ready.version, ready.confirmed) != ("B", "0.2.0", True):
                raise KubesoloError(f"the update ended in slot {ready.slot} with {ready.version}")
            outcome.append(f"slot {boots.slots[0]}, confirmed")
        bad = releases.publish_next(first, releases.panicking_init.slot)
        update = Update(node, bad, server)
        with story.chapter("apply 0.2.1, whose init panics, to slot A") as outcome:
            update.stage()
            outcome.append("armed")
        with story.chapter("three failed boots and the way back") as outcome:
            with (
                node.expecting(Pattern.INIT_EXITED, times=3),
                node.expect_boots(4) as boots,
            ):
                node.reboot()
                # The last of the four is the one that gets ready.
            ready = node.wait_ready()
            if (ready.slot, ready.version, ready.confirmed) != ("B", "0.2.0", True):
                raise KubesoloError(f"the rollback ended in slot {ready.slot} with {ready.version}")
            outcome.append(f"slots {' '.join(boots.slots)}")
            outcome.append(str(node.status().update.last_error))


def _drifted(lines: tuple[str, ...]) -> list[str]:
    return [f"NOT AS LOCKED: {len(lines)} packages are others"] if lines else []


def show_in_readme(story: Story, picture: Path) -> None:
    """Put the story and its picture into README, both of the same run."""
    text = README.read_text()
    renewed, count = re.subn(r"(?ms)(?<=^```\n)what  .*?(?=^```$)", lambda _: story.plain(), text)
    if count != 1:
        raise KubesoloError(f"{README} has {count} tables of the demo, and one was expected")
    README.write_text(renewed)
    shutil.copyfile(picture, PICTURE)


def run(arch: Arch, *, readme: bool = False) -> None:
    """Build, tell, write the evidence."""
    story = Story()
    console = Console(highlight=False)
    cache = Cache()
    with story.chapter("host programs") as outcome:
        tools = HostTools.prepare(cache)
        outcome += _drifted(tools.drift)
    builder = Builder(recipe.Arch(arch.value), cache=cache, tools=tools)
    with story.chapter(f"image 0.1.0 for {arch.value}, accelerator") as outcome:
        bench = Bench.prepare(builder)
        outcome.append(bench.host.accelerator)
        outcome += _drifted(bench.image.slot.manifest.drift)
    artefacts = OUTPUT / arch.value
    with tempfile.TemporaryDirectory(prefix="kubesolo-demo-") as folder:
        releases = Releases(builder, Path(folder))
        with story.chapter("releases 0.2.0 and 0.2.1") as outcome:
            for slot in (releases.good.slot, releases.panicking_init.slot):
                outcome.append(f"{slot.version}: {slot.manifest.total_size / 1e6:.0f} MB")
        reproduce = f"./noxw -s demo -- --arch {arch.value}"
        try:
            with bench.session(f"demo[{arch.value}]", artefacts, reproduce) as session:
                tell(session.node(), releases, story)
        finally:
            report = write_report(OUTPUT, OUTPUT / "report.html")
            console.print(story.table(f"KubeSolo OS on {arch.value} ({bench.host.accelerator})"))
            node = artefacts / "node"
            console.print(f"console log       {node / 'console.log'}")
            console.print(f"timeline picture  {node / 'timeline.svg'}")
            console.print(f"report            {report}")
    if readme:
        show_in_readme(story, node / "timeline.svg")


def main(
    arch: Annotated[Arch | None, typer.Option(help="The host's if absent.")] = None,
    readme: Annotated[
        bool, typer.Option("--readme", help="Renew README's table and picture from this run.")
    ] = False,
) -> None:
    """Build, boot, update, survive a bad update."""
    run(arch or Arch(host_arch().value), readme=readme)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except KubesoloError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
