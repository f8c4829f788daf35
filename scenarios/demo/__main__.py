"""``./noxw -s demo [-- --arch aarch64] [--no-kubernetes]``.

Builds images and signed releases, tells both parts on machines of their own, prints a table for
each as soon as it has ended, and leaves the evidence of both below ``out/demo``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from harness.qemu.arch import Arch
from harness.report.html import write_report
from harness.target.node import Node
from product.errors import KubesoloError
from product.image import recipe
from product.image.build import DEFAULT_RECIPE, Builder
from product.image.cache import Cache
from product.image.tools import HostTools, host_arch
from scenarios import kubectl
from scenarios.command_line import ERRORS
from scenarios.demo import appliance, kubernetes
from scenarios.demo.estimate import Estimate
from scenarios.demo.story import Story, show_in_readme
from scenarios.kubernetes import MACHINE
from scenarios.local import Bench
from scenarios.releases import Releases

OUTPUT = Path("out/demo")
README = Path("README.md")
PICTURES = (Path("docs/rollback.svg"), Path("docs/rollback-kubernetes.svg"))


class Interrupted(KubesoloError):
    """Ctrl-C; the message says what stands and how to go on."""

    exit_code = 130


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its name in messages and in the report, its image, its machine, its story."""

    name: str
    test: str
    suffix: str
    recipe: Path
    machine: dict[str, Any]
    slots: Callable[[Releases], list[str]]
    tell: Callable[[Node, Releases, Story], None]


APPLIANCE = Part(
    "without Kubernetes", "demo", "", DEFAULT_RECIPE, {}, appliance.slots, appliance.tell
)
KUBERNETES = Part(
    "with Kubernetes", "demo with Kubernetes", "-kubernetes", kubectl.RECIPE, MACHINE,
    kubernetes.slots, kubernetes.tell,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a part is told: for one architecture, shown on one console."""

    arch: Arch
    cache: Cache
    console: Console

    @property
    def command(self) -> str:
        """What runs it again."""
        return f"./noxw -s demo -- --arch {self.arch.value}"

    def artefacts(self, part: Part) -> Path:
        """The folder of a part's evidence."""
        return OUTPUT / f"{self.arch.value}{part.suffix}"

    def picture(self, part: Part) -> Path:
        """The part's timeline."""
        return self.artefacts(part) / "node" / "timeline.svg"

    def run(self, part: Part) -> Story:
        """Build what the part needs, tell it, show its table and where its evidence lies."""
        story = Story()
        with story.chapter("host programs") as outcome:
            tools = HostTools.prepare(self.cache)
            outcome += _drifted(tools.drift)
        arch = recipe.Arch(self.arch.value)
        builder = Builder(arch, cache=self.cache, tools=tools, recipe=part.recipe)
        with story.chapter(f"image 0.1.0 for {arch}, accelerator") as outcome:
            bench = Bench.prepare(builder)
            if part is KUBERNETES:
                kubectl.program()
            outcome.append(bench.host.accelerator)
            outcome += _drifted(bench.image.slot.manifest.drift)
        with tempfile.TemporaryDirectory(prefix="kubesolo-demo-") as folder:
            releases = Releases(builder, Path(folder))
            with story.chapter("releases 0.2.0 and 0.2.1") as outcome:
                outcome += part.slots(releases)
            test = f"{part.test}[{arch}]"
            try:
                with bench.session(test, self.artefacts(part), self.command) as session:
                    part.tell(session.node(**part.machine), releases, story)
            finally:
                self._show(part, story, bench.host.accelerator)
        return story

    def _show(self, part: Part, story: Story, accelerator: str) -> None:
        report = write_report(OUTPUT, OUTPUT / "report.html")
        title = f"KubeSolo OS {part.name} on {self.arch.value} ({accelerator})"
        self.console.print(story.table(title))
        self.console.print(f"console log       {self.artefacts(part) / 'node' / 'console.log'}")
        self.console.print(f"timeline picture  {self.picture(part)}")
        self.console.print(f"report            {report}")


def _drifted(lines: tuple[str, ...]) -> list[str]:
    return [f"NOT AS LOCKED: {len(lines)} packages are others"] if lines else []


@contextmanager
def ends_in_one_line(message: str) -> Iterator[None]:
    """Raise Interrupted with ``message`` where Ctrl-C ends the scope, whatever fails on the way."""
    try:
        yield
    except BaseException as error:
        if not _by_ctrl_c(error):
            raise
        raise Interrupted(message) from None


def _by_ctrl_c(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        # What an end that was asked for made fail in its turn.
        error = error.__context__
    return False


def run(stage: Stage, *, with_kubernetes: bool = True, readme: bool = False) -> None:
    """Say how long it takes, then tell the parts."""
    again = f"run it again: {stage.command}{'' if with_kubernetes else ' --no-kubernetes'}"
    with ends_in_one_line(f"interrupted in the first part; what is built is kept, {again}"):
        estimate = Estimate.ask(recipe.Arch(stage.arch.value), stage.cache)
        for line in estimate.lines(kubernetes=with_kubernetes):
            stage.console.print(line)
        for part in (APPLIANCE, KUBERNETES):
            # The report is of this run.
            shutil.rmtree(stage.artefacts(part), ignore_errors=True)
        stories = [stage.run(APPLIANCE)]
    if not with_kubernetes:
        return
    with ends_in_one_line(
        "interrupted in the second part; the result of the first stands, what is compiled is kept, "
        f"{again}"
    ):
        stories.append(stage.run(KUBERNETES))
    if readme:
        pictures = zip((APPLIANCE, KUBERNETES), PICTURES, strict=True)
        show_in_readme(README, stories, {stage.picture(part): place for part, place in pictures})


def main(
    arch: Annotated[Arch | None, typer.Option(help="The host's if absent.")] = None,
    no_kubernetes: Annotated[
        bool, typer.Option("--no-kubernetes", help="Stop after the first part.")
    ] = False,
    readme: Annotated[
        bool, typer.Option("--readme", help="Renew README's tables and pictures from this run.")
    ] = False,
) -> None:
    """Build, boot, update, survive a bad update: without Kubernetes, then with it."""
    if readme and no_kubernetes:
        raise typer.BadParameter(
            "README shows both parts: leave --no-kubernetes out", param_hint="--readme"
        )
    stage = Stage(arch or Arch(host_arch().value), Cache(), Console(highlight=False))
    run(stage, with_kubernetes=not no_kubernetes, readme=readme)


def command() -> NoReturn:
    """Run the command line; an error is its message and its hint, never a traceback."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except Interrupted as error:
        print(f"\n{error.message}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ERRORS as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit()


if __name__ == "__main__":
    command()
