"""``kubesolo-install``: the system that runs from a medium, onto a disk."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from product.cloudinit.errors import InvalidFileError
from product.errors import KubesoloError
from product.installer.disks import Disk, Rule, choose, require_empty
from product.installer.errors import NoOrderError
from product.installer.job import Job
from product.installer.machine import Machine
from product.installer.menu import choose_disk
from product.installer.rule import POWEROFF, REBOOT, Order, order_of

Say = Callable[[str], None]
_NAME = "kubesolo-install"
_TITLES = {"write": "written", "verify": "read back"}
_EPILOG = """\
Without --auto and --disk it shows a numbered list of disks, and asks for the chosen one's path
again. The files of the seed disk go along.

exit codes:
  0    installed, and the machine restarts; or the list was shown
  1    failed before anything was written: the medium, the seed, a device
  2    wrong usage
  3    no disk fits, several do, or the one that fits cannot be taken
  4    the disk is not empty, and nobody said that its content may be lost
  5    this medium has installed the disk with this seed already
  6    failed while the disk was written: it has no partition table, and starts nothing
  7    --auto: the seed orders no installation
  8    no disk was chosen at the menu
  130  interrupted before anything was written
"""


def main(argv: Sequence[str], machine: Machine | None = None) -> int:
    """Run it; the exit code. Tests bring a ``machine`` of their own."""
    parser = argparse.ArgumentParser(
        prog=_NAME,
        description="Install the system that runs from a medium to a disk.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--auto", action="store_true", help="do what the seed orders, or nothing")
    parser.add_argument("--list", action="store_true", help="show the disks, and write nothing")
    parser.add_argument("--disk", metavar="PATH", help="install to this disk, without questions")
    parser.add_argument("--wipe", action="store_true", help="what lies on that disk may be lost")
    parser.add_argument("--poweroff", action="store_true", help="power off at the end: no reboot")
    try:
        options = parser.parse_args(argv)
    except SystemExit as ended:
        return int(ended.code or 0)
    say: Say = _print
    try:
        machine = machine or Machine()
        if options.auto:
            # A boot has nobody who looks at this program's own streams.
            say = machine.node.print_console
        _run(options, machine, say)
    except InvalidFileError as error:
        _tell_faults(error, say)
        say(f"{_NAME}: hint: correct the seed; nothing was written")
        return error.exit_code
    except NoOrderError as error:
        return error.exit_code
    except KubesoloError as error:
        say(f"{_NAME}: error: {error.message}")
        if error.hint:
            say(f"{_NAME}: hint: {error.hint}")
        return error.exit_code
    except OSError as error:
        say(f"{_NAME}: error: {error}")
        return 1
    except (KeyboardInterrupt, EOFError):
        say(f"{_NAME}: ended; nothing was written")
        return 130
    return 0


def _print(line: str) -> None:
    print(line, flush=True)


def _tell_faults(error: InvalidFileError, say: Say) -> None:
    for problem in error.problems:
        say(f"{_NAME}: error: {problem}")


def _run(options: argparse.Namespace, machine: Machine, say: Say) -> None:
    with machine.medium() as folder:
        job = Job(machine, folder)
        seed = machine.seed()
        if options.list:
            for disk in machine.disks():
                reason = disk.refusal(job.document.size)
                say(disk.describe() + (f": {reason}" if reason else ""))
            return
        files = dict(seed.files) if seed else {}
        try:
            order = order_of(files)
        except InvalidFileError as error:
            if options.auto or options.disk:
                raise
            # A person is there to decide.
            _tell_faults(error, say)
            say("The seed is not used: the disk gets no configuration.")
            seed, files, order = None, {}, None
        if options.auto and order is None:
            raise NoOrderError("the seed orders no installation")
        then = order.then if order else REBOOT
        if options.disk:
            order = Order(Rule(path=options.disk), options.wipe, then)
        elif not options.auto:
            order = None
        if options.poweroff:
            then = POWEROFF
        if order is None:
            if seed:
                say(f"The configuration of {seed.place} goes onto the disk.")
            disk = choose_disk(machine.disks(), job.document.size, input, say)
        else:
            disk = choose(machine.disks(), order.rule, job.document.size)
            if options.auto:
                job.require_new(disk, files)
            require_empty(disk, wipe=order.wipe)
        _write(job, disk, files, say)
    what = "reboots" if then == REBOOT else "powers off"
    say(f"{_NAME}: done: {disk.path} holds {job.version}; remove the medium; the machine {what}")
    machine.restart(then)


def _write(job: Job, disk: Disk, files: dict[str, bytes], say: Say) -> None:
    with_files = f" with {', '.join(sorted(files))}" if files else ""
    say(f"{_NAME}: writing {job.version}{with_files} to {disk.describe()}")
    tenths: dict[str, int] = {}

    def progress(what: str, done: int, total: int) -> None:
        tenth = done * 10 // total
        if tenth > tenths.get(what, 0):
            tenths[what] = tenth
            say(f"{_NAME}: {_TITLES[what]}: {tenth * 10} % ({done} of {total} bytes)")

    job.run(disk, files, progress)
