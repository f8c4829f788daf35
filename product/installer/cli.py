"""``kubesolo-install``: the system that runs from a medium, onto a disk.

Without arguments a person chooses a disk. ``--auto`` is for the boot: it does what the seed orders,
and nothing where it orders nothing. Exit codes: 0 done, 1 failed before anything was written,
2 wrong usage, 3 no disk fits, 4 the disk is not empty, 5 it was installed with this seed already,
6 failed while the disk was written.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from product.agent.node import Node
from product.cloudinit.errors import InvalidFileError
from product.errors import KubesoloError
from product.installer.disks import Disk, Rule, choose, require_empty
from product.installer.job import Job, find_seed, job, restart
from product.installer.menu import choose_disk
from product.installer.rule import POWEROFF, REBOOT, Order, order_of

Say = Callable[[str], None]
_TITLES = {"write": "written", "verify": "read back"}


def main(argv: Sequence[str]) -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(
        prog="kubesolo-install",
        description="Install the system that runs from a medium to a disk.",
        epilog="Without --disk a numbered list is shown; the seed's configuration goes with it.",
    )
    parser.add_argument("--auto", action="store_true", help="do what the seed orders, if it does")
    parser.add_argument("--list", action="store_true", help="show the disks, and write nothing")
    parser.add_argument("--disk", metavar="PATH", help="install to this disk, without questions")
    parser.add_argument("--wipe", action="store_true", help="what lies on the disk may be lost")
    parser.add_argument("--poweroff", action="store_true", help="power off afterwards, no reboot")
    try:
        options = parser.parse_args(argv)
    except SystemExit as ended:
        return int(ended.code or 0)
    # A boot has nobody who looks at this program's own streams.
    say = Node().print_console if options.auto else _print
    try:
        _run(options, say)
    except InvalidFileError as error:
        for one in error.problems:
            say(f"kubesolo-install: error: {one.file}, line {one.line}: {one.key}: {one.message}")
        return error.exit_code
    except KubesoloError as error:
        say(f"kubesolo-install: error: {error.message}")
        if error.hint:
            say(f"kubesolo-install: hint: {error.hint}")
        return error.exit_code
    except OSError as error:
        say(f"kubesolo-install: error: {error}")
        return 1
    except (KeyboardInterrupt, EOFError):
        say("kubesolo-install: ended; nothing was written")
        return 130
    return 0


def _print(line: str) -> None:
    print(line, flush=True)


def _run(options: argparse.Namespace, say: Say) -> None:
    with job() as work:
        if options.list:
            for disk in work.disks():
                say(disk.describe())
            return
        seed = find_seed(work.medium)
        files = dict(seed.files) if seed else {}
        ordered = order_of(seed) if options.auto else None
        if options.auto and ordered is None:
            return
        then = POWEROFF if options.poweroff else REBOOT
        if ordered is None and not options.disk:
            if seed:
                say(f"The configuration of {seed.place} goes onto the disk.")
            disk = choose_disk(work.disks(), work.document.size, input, say)
        else:
            order = ordered or Order(Rule(path=options.disk), options.wipe, then)
            then = order.then
            disk = choose(work.disks(), order.rule, work.document.size)
            work.require_new(disk, files)
            require_empty(disk, wipe=order.wipe)
        _write(work, disk, files, say)
    say(f"kubesolo-install: done: {disk.path} holds {work.version}; remove the medium: {then}")
    restart(then)


def _write(work: Job, disk: Disk, files: dict[str, bytes], say: Say) -> None:
    with_files = f" with {', '.join(sorted(files))}" if files else ""
    say(f"kubesolo-install: writing {work.version}{with_files} to {disk.describe()}")
    quarters: dict[str, int] = {}

    def progress(what: str, done: int, total: int) -> None:
        quarter = done * 4 // total
        if quarter > quarters.get(what, 0):
            quarters[what] = quarter
            say(f"kubesolo-install: {_TITLES[what]}: {quarter * 25} %")

    work.run(disk, files, progress)
