"""What a command line says and returns when it ends in an error."""

from __future__ import annotations

import pytest

from product import command_line
from product.errors import KubesoloError


class _BadError(KubesoloError):
    exit_code = 7


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (_BadError("it is bad", hint="mend it"), 7, "error: it is bad\nhint: mend it\n"),
        (_BadError("it is bad"), 7, "error: it is bad\n"),
        (OSError(28, "No space left", "/x"), 1, "error: /x: No space left\n"),
        (OSError("odd"), 1, "error: a file: odd\n"),
        (SystemExit(3), 3, ""),
        (SystemExit(None), 0, ""),
        (SystemExit("a text"), 1, "a text\n"),
    ],
)
def test_an_error_is_one_line_and_a_status(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert command_line.run(fail) == code
    assert capsys.readouterr().err == said


def test_what_returns_has_succeeded() -> None:
    assert command_line.run(lambda: 5) == 0


def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        command_line.run(lambda: 1 // 0)
