"""JSON Schema, as much of it as the published schemas use; any other keyword is an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[3] / "docs/schema"
_NOTES = {"$schema", "$defs", "title", "description"}
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def faults(name: str, value: object) -> list[str]:
    """What in ``value`` is not as the schema ``name`` says, or is not in it at all."""
    root = json.loads((FOLDER / name).read_text())
    return list(_faults(root, root, value, "$"))


def _faults(root: dict[str, Any], schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:
    for keyword, wanted in schema.items():
        if keyword in _NOTES or keyword in ("properties", "additionalProperties"):
            continue
        if keyword == "$ref":
            yield from _faults(root, root["$defs"][wanted.rpartition("/")[2]], value, at)
        elif keyword == "anyOf":
            found = [list(_faults(root, one, value, at)) for one in wanted]
            yield from [] if [] in found else min(found, key=len)
        elif keyword == "type":
            names = [wanted] if isinstance(wanted, str) else wanted
            if not any(_is(value, name) for name in names):
                yield f"{at} is {value!r:.80}, not {names}"
        elif keyword == "const":
            if value != wanted:
                yield f"{at} is {value!r:.80}, not {wanted!r}"
        elif keyword == "enum":
            if value not in wanted:
                yield f"{at} is {value!r:.80}, not one of {wanted}"
        elif keyword == "minimum":
            if isinstance(value, int) and value < wanted:
                yield f"{at} is {value}"
        elif keyword == "required":
            if isinstance(value, dict):
                yield from (f"{at} lacks {key}" for key in wanted if key not in value)
        elif keyword == "items":
            for number, item in enumerate(value if isinstance(value, list) else ()):
                yield from _faults(root, wanted, item, f"{at}[{number}]")
        else:
            raise ValueError(f"{keyword} is no keyword that is known here")
    if isinstance(value, dict) and schema.get("type") == "object":
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            if inner is None:
                yield f"{at}.{key} is not in the schema"
            else:
                yield from _faults(root, inner, item, f"{at}.{key}")


def _is(value: object, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
