"""``completion``: scripts for shells, made from the commands' own parsers.

They complete commands, options and the values that are known; what a shell knows itself, files for
instance, is the shell's. Nothing of the harness is started for them.
"""

from __future__ import annotations

import enum
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


class Shell(enum.StrEnum):
    """A shell that completes."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@dataclass(frozen=True, slots=True)
class Option:
    """An option, the values that it may have (none: any), and what it is for."""

    name: str
    values: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command by its words: ``cache prune``."""

    words: tuple[str, ...]
    text: str
    options: tuple[Option, ...] = field(default_factory=tuple)
    values: tuple[str, ...] = ()  # of its arguments, where they are known


def commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[Command]:
    """All commands below a Typer group."""
    for name, command in group.commands.items():
        options = []
        values: tuple[str, ...] = ()
        for parameter in command.params:
            kind = parameter.type_descriptor.annotation
            listed = isinstance(kind, type) and issubclass(kind, enum.Enum)
            known = tuple(str(choice) for choice in kind) if listed else ()
            long = [name for name in parameter.opts if name.startswith("--")]
            if long:
                options.append(Option(long[0], known, _first(getattr(parameter, "help", ""))))
            else:
                values += known
        options.append(Option("--help", (), "show what it does"))
        below = getattr(command, "commands", {})
        own = Command((*words, name), _first(command.help), tuple(options), (*values, *below))
        yield own
        if below:
            yield from commands(command, own.words)


def _first(text: str | None) -> str:
    return (text or "").partition("\n")[0].rstrip(".")


def script(shell: Shell, group: Any, program: str = "harness") -> str:
    """The script that teaches ``shell`` the commands of ``program``."""
    every = list(commands(group))
    write = {Shell.BASH: _bash, Shell.ZSH: _zsh, Shell.FISH: _fish}[shell]
    return "\n".join(write(program, every)) + "\n"


def _cases(every: list[Command], place: str) -> Iterator[str]:
    """Branches of a shell's ``case`` that set ``known``, the longest commands first."""
    for command in sorted(every, key=lambda one: -len(one.words)):
        for option in command.options:
            if option.values:
                pattern = f'"{" ".join(command.words)}"*" {option.name}"'
                yield f"    {pattern}) known={shlex.quote(' '.join(option.values))};;"
    for command in sorted(every, key=lambda one: -len(one.words)):
        known = [*command.values, *(option.name for option in command.options)]
        yield f'    "{" ".join(command.words)}"*) known={shlex.quote(" ".join(known))};;'
    top = [command.words[0] for command in every if len(command.words) == 1]
    yield f"    {place}) known={shlex.quote(' '.join(top))};;"


def _bash(program: str, every: list[Command]) -> Iterator[str]:
    yield f"_{program}() {{"
    yield '  local line="${COMP_WORDS[*]:1:COMP_CWORD-1}" known=""'
    yield '  case "$line" in'
    yield from _cases(every, '""')
    yield "  esac"
    yield '  COMPREPLY=($(compgen -W "$known" -- "${COMP_WORDS[COMP_CWORD]}"))'
    yield "}"
    yield f"complete -o default -F _{program} {program}"


def _zsh(program: str, every: list[Command]) -> Iterator[str]:
    yield f"#compdef {program}"
    yield f"_{program}() {{"
    yield '  local line="${(j: :)words[2,CURRENT-1]}" known=""'
    yield '  case "$line" in'
    yield from _cases(every, '""')
    yield "  esac"
    yield "  compadd -- ${=known}"
    yield '  [[ -z "$line" ]] || _files'
    yield "}"
    yield f"compdef _{program} {program}"


def _fish(program: str, every: list[Command]) -> Iterator[str]:
    for command in every:
        *before, name = command.words
        parent = before[-1] if before else ""
        seen = f"__fish_seen_subcommand_from {parent}" if parent else "__fish_use_subcommand"
        text = shlex.quote(command.text)
        yield f"complete -c {program} -n '{seen}' -a {name} -d {text}"
        for option in command.options:
            values = f" -xa {shlex.quote(' '.join(option.values))}" if option.values else ""
            when = f"'__fish_seen_subcommand_from {name}'"
            told = f" -d {shlex.quote(option.text)}" if option.text else ""
            yield f"complete -c {program} -n {when} -l {option.name[2:]}{values}{told}"
