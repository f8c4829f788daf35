"""Where ``kubesolo-update`` begins: by the resident process where there is one, else by itself.

See product.agent.services.fork_server. It imports what every interpreter has, because a command
should cost no more than it must.
"""

import posix
import sys

# Without the modules socket and signal: they bring enum, selectors and more.
from _signal import SIGINT, default_int_handler, getsignal, signal  # type: ignore[import-not-found]
from _socket import AF_UNIX, SCM_RIGHTS, SHUT_WR, SOCK_STREAM, SOL_SOCKET, socket

SOCKET = "/run/kubesolo/agent.sock"


def launch(arguments: list[str], path: str = SOCKET) -> int:
    """Run the command; its exit code."""
    code = _by_server(arguments, path)
    if code is not None:
        return code
    from product.agent.cli.main import main

    return main(arguments)


def _by_server(arguments: list[str], path: str) -> int | None:
    """The exit code of a command that the server ran; None where it runs none."""
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        # What a closed one means is for the command to judge.
        return None
    connection = socket(AF_UNIX, SOCK_STREAM)
    interrupts = _interrupts(connection)
    begun = answer = b""
    try:
        connection.connect(path)
        _send(connection, arguments)
        begun = connection.recv(1)
        answer = begun and connection.recv(1)
    except OSError:
        pass
    finally:
        connection.close()
        if interrupts is not None:
            signal(SIGINT, default_int_handler)
    if answer:
        return answer[0]
    if interrupts:
        return 130
    if not begun:
        return None
    print("error: the resident agent ended while it ran this command", file=sys.stderr)
    print("hint: kubesolo-update status says how far it came", file=sys.stderr)
    return 1


def _interrupts(connection: socket) -> list[int] | None:
    """A list that grows by one at each interrupt, which the command hears of; None where who
    started this process has it ignore them.

    The handler raises nothing before the second one: an exception may come between a byte's arrival
    and its use, and what the command still has to say is waited for.
    """
    if getsignal(SIGINT) is not default_int_handler:
        return None
    heard: list[int] = []

    def hear(number: int, frame: object) -> None:
        heard.append(number)
        if len(heard) > 1:
            posix._exit(130)
        try:
            connection.shutdown(SHUT_WR)
        except OSError:
            # It is not connected yet, or no longer.
            connection.close()

    signal(SIGINT, hear)
    return heard


def _send(connection: socket, arguments: list[str]) -> None:
    """The message; see product.agent.services.fork_server."""
    mask = posix.umask(0o077)
    posix.umask(mask)
    nice = posix.getpriority(posix.PRIO_PROCESS, 0)
    fields = [b"%d" % mask, b"%d" % nice, posix.getcwdb(), b"%d" % len(arguments)]
    encoding = sys.getfilesystemencoding()
    fields += [argument.encode(encoding, "surrogateescape") for argument in arguments]
    fields += [b"%s=%s" % pair for pair in posix.environ.items()]
    body = b"\0".join(fields)
    data = b"K1" + len(body).to_bytes(4, "big") + body
    # Three descriptors, each a C int in this machine's order.
    files = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
    sent = connection.sendmsg([data], [(SOL_SOCKET, SCM_RIGHTS, files)])
    while sent < len(data):
        sent += connection.send(data[sent:])
