"""From pydantic's errors to ours: place, key, and words for people who know YAML and no Python."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from product.cloudinit.document import Document, Path
from product.cloudinit.errors import Faults, Problem

T = TypeVar("T", bound=BaseModel)
# Similar names are looked for this often in a file: it takes a millisecond each.
_MAX_GUESSES = 20
# A password may hold what no URL can: then the value is refused, and not shown either.
_LOGIN = re.compile(r"//.{1,500}@", re.DOTALL)
_TRUE = ("true", "yes", "on")
_FALSE = ("false", "no", "off")


class Model(BaseModel):
    """What every part of the schema has: nothing changes it, and no key is passed over."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def shown(value: object) -> str:
    """A value for a message: short, on one line, and without the password of a URL."""
    if isinstance(value, str):
        value = _LOGIN.sub("//***@", value)
        return repr(value if len(value) <= 60 else f"{value[:57]}...")
    return kind(value)


def kind(value: object) -> str:
    """What a value of a document is, in words."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else "text"


def guess(word: str, known: typing.Iterable[str]) -> str:
    """`; did you mean NAME?`, or nothing."""
    folded = {name.lower().replace("_", "-"): name for name in known}
    matcher = difflib.SequenceMatcher()
    matcher.set_seq2(word[:60].lower().replace("_", "-"))
    best, closest = 0.7, ""
    for name, original in folded.items():
        matcher.set_seq1(name)
        if matcher.quick_ratio() > best and (ratio := matcher.ratio()) > best:
            best, closest = ratio, original
    return f"; did you mean {closest}?" if closest else ""


def flag(value: object) -> bool:
    if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
        return value.lower() in _TRUE
    raise ValueError(f"needs true or false, found {shown(value)}")


Flag = Annotated[bool, BeforeValidator(flag)]


def one_of(*words: str) -> BeforeValidator:
    """What makes a ``str`` of a model one of some words."""

    def check(value: object) -> str:
        if value not in words:
            raise ValueError(f"needs {' or '.join(words)}, found {shown(value)}")
        return str(value)

    return BeforeValidator(check)


def whole(text: object, low: int, high: int) -> int:
    """A whole number as people write it, within bounds. Raises ValueError."""
    if not isinstance(text, str) or not (text.isascii() and text.isdigit()):
        raise ValueError(f"needs a whole number, found {shown(text)}")
    if len(text) > 1 and text[0] == "0":
        raise ValueError(f"{shown(text)} begins with 0; write it without")
    if len(text) > 12 or not low <= int(text) <= high:
        raise ValueError(f"{shown(text)} is not between {low} and {high}")
    return int(text)


def between(low: int, high: int) -> BeforeValidator:
    """What makes an ``int`` of a model a whole number from ``low`` to ``high``."""
    return BeforeValidator(lambda value: whole(value, low, high))


def validate(
    model: type[T], value: object, document: Document, path: Path, problems: list[Problem]
) -> T | None:
    """``value`` as a ``model``; None where there are faults, which go to ``problems``."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems += explain(error, document, path, model)
        return None


def explain(
    error: ValidationError, document: Document, path: Path, model: Any = None
) -> list[Problem]:
    """One problem for each thing that pydantic, or a validator of ours, found."""
    found: list[tuple[Path, str]] = []
    for entry in error.errors(include_url=False):
        where = tuple(step for step in entry["loc"])
        cause = entry.get("ctx", {}).get("error")
        if isinstance(cause, Faults):
            found += [((*where, *below), message) for below, message in cause.faults]
        else:
            guesses = len(found) < _MAX_GUESSES
            found.append((where, _message(entry, cause, model if guesses else None)))
    return [
        document.problem((*path, *where), message, at_key=message.startswith("unknown key"))
        for where, message in found
    ]


def _message(entry: Any, cause: object, model: Any) -> str:
    value = entry["input"]
    match entry["type"]:
        case "value_error":
            return str(cause)
        case "missing":
            return "is missing"
        case "extra_forbidden":
            names = _names(model, entry["loc"][:-1]) if model else []
            return "unknown key" + guess(str(entry["loc"][-1]), names)
        case "string_type":
            return f"needs text, found {kind(value)}"
        case "tuple_type" | "list_type":
            if isinstance(value, str):
                return "needs a list, found text; write each entry in a line of its own after '- '"
            return f"needs a list, found {kind(value)}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"needs a mapping, found {kind(value)}"
    return str(entry["msg"])


def _names(model: Any, loc: tuple[Any, ...]) -> list[str]:
    """The keys that are known where ``loc`` leads."""
    for step in loc:
        field = next(
            (f for name, f in model.model_fields.items() if (f.alias or name) == step), None
        )
        if isinstance(step, int):
            continue
        if field is None:
            return []
        inner = _model(field.annotation)
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _model(annotation: Any) -> Any:
    """The first model within an annotation such as ``tuple[Entry, ...] | None``."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    for argument in typing.get_args(annotation):
        if (found := _model(argument)) is not None:
            return found
    return None
