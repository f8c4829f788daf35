"""A file with its errors marked, in the manner of ``cloud-init schema --annotate``."""

from __future__ import annotations

from collections.abc import Sequence

from product.cloudinit.errors import Problem


def annotate(text: str, problems: Sequence[Problem]) -> str:
    """``text`` with ``# E1`` behind each line that has an error, and the list of errors."""
    marks: dict[int, list[str]] = {}
    for number, problem in enumerate(problems, start=1):
        marks.setdefault(problem.line, []).append(f"E{number}")
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    marked = [
        f"{line}\t\t# {','.join(marks[number])}" if number in marks else line
        for number, line in enumerate(lines or [""], start=1)
    ]
    if problems:
        marked += ["", "# Errors: -------------"]
    for number, problem in enumerate(problems, start=1):
        where = f"line {problem.line}, column {problem.column}"
        what = f"{problem.key}: {problem.message}" if problem.key else problem.message
        marked.append(f"# E{number}: {where}: {what}")
    return "\n".join(marked) + "\n"
