"""Run a command in a lab of this host: ``lab.py [--board BOARD] COMMAND...``.

Starts labgrid's coordinator and exporter and the rig of rig.py, makes and acquires the place that
the environment files here name, runs COMMAND with the variables that they take, and ends all of it.
BOARD is one of rig.py's. The exit status is that of COMMAND.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLACE = "appliance"
START_SECONDS = 60.0


def free_port() -> int:
    """A TCP port of the loopback that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def process(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the scope, by SIGTERM, and by SIGKILL where that is in vain."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            command, env=dict(environment), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield running
        finally:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def program(name: str) -> str:
    """One of labgrid's programs, beside this interpreter."""
    return str(Path(sys.executable).with_name(name))


def until(what: str, running: subprocess.Popen[bytes], log: Path, done: object) -> None:
    """Return once ``done()``; SystemExit where the process ends or time is over."""
    assert callable(done)
    end = time.monotonic() + START_SECONDS
    while not done():
        if running.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"{what} did not start:\n{log.read_text()}")
        time.sleep(0.1)


def listens(port: int) -> bool:
    """Whether somebody takes connections at a port of the loopback."""
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def lab(folder: Path, board: str) -> Iterator[dict[str, str]]:
    """A lab with its place acquired; yields the environment of its users."""
    serial, ssh, coordinator = free_port(), free_port(), free_port()
    address = f"127.0.0.1:{coordinator}"
    rig = [sys.executable, str(HERE / "rig.py"), "--board", board, str(folder / "rig")]
    environment = {
        **os.environ,
        "LG_RIG": shlex.join(rig),
        "LG_CARD": str(folder / "rig" / "host" / "card.img"),
        "LG_SERIAL_PORT": str(serial),
        "LG_SSH_PORT": str(ssh),
        "LG_COORDINATOR_ADDRESS": address,
        "LG_COORDINATOR": address,
        "LG_USERNAME": "harness",
        "LG_HOSTNAME": "lab",
    }

    def client(*words: str) -> str:
        done = subprocess.run(
            [program("labgrid-client"), *words], env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"labgrid-client {shlex.join(words)}: {done.stderr or done.stdout}")
        return done.stdout

    with ExitStack() as running:

        def begin(name: str, command: Sequence[str], folder_of: Path, done: object) -> None:
            log = folder / f"{name}.log"
            folder_of.mkdir(exist_ok=True)
            one = running.enter_context(process(command, environment, log))
            until(name, one, log, done)

        begin("rig", [*rig, "serve", "--serial-port", str(serial)], folder, lambda: listens(serial))
        # The coordinator keeps its places in the working directory.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        began = Path.cwd()
        os.chdir(folder)
        try:
            begin(
                "coordinator", [program("labgrid-coordinator"), "-l", address], folder,
                lambda: listens(coordinator),
            )  # fmt: skip
        finally:
            os.chdir(began)
        exporter = [program("labgrid-exporter"), "-c", address, "--name", "lab"]
        exporter += ["--hostname", "127.0.0.1", str(HERE / "exporter.yaml")]
        begin("exporter", exporter, folder, lambda: "NetworkService" in client("resources"))
        client("-p", PLACE, "create")
        client("-p", PLACE, "add-match", "lab/qemu-board/*")
        client("-p", PLACE, "acquire")
        running.callback(client, "-p", PLACE, "release")
        yield environment


def main() -> int:
    """Run the command."""
    command = sys.argv[1:]
    board = "pc"
    if command[:1] == ["--board"]:
        board, command = "".join(command[1:2]), command[2:]
    if not command:
        raise SystemExit(__doc__)
    # Whoever ends it ends the lab, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with (
        tempfile.TemporaryDirectory(prefix="lab-") as folder,
        lab(Path(folder), board) as environment,
    ):
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
