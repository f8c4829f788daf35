"""What this boot found, and what was applied: the node's own records, for people."""

from __future__ import annotations

import json

from product.cloudinit.errors import CloudInitError

BOOT = "/run/kubesolo/config.json"
APPLIED = "/var/lib/kubesolo/config/applied.json"
MAX_BYTES = 1024 * 1024
_LABELS = (("source", "source"), ("instance_id", "instance-id"), ("outcome", "outcome"))


def read_records(root: str = "") -> dict[str, dict[str, object] | None]:
    """``boot`` and ``applied``; None where there is no such file.

    Raises CloudInitError where both are missing or one cannot be read.
    """
    found = {"boot": _read(root + BOOT), "applied": _read(root + APPLIED)}
    if not any(document is not None for document in found.values()):
        raise CloudInitError(
            f"neither {root + BOOT} nor {root + APPLIED} is there",
            hint="show runs on a node that has booted; on another machine, use validate or render",
        )
    return found


def _read(path: str) -> dict[str, object] | None:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        document = json.loads(data)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CloudInitError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise CloudInitError(f"{path} is damaged: it is not JSON") from None
    if not isinstance(document, dict):
        raise CloudInitError(f"{path} is damaged: it is not a JSON object")
    return document


def describe(records: dict[str, dict[str, object] | None]) -> str:
    """Both records in a few lines each; fields that are missing are left out."""
    lines: list[str] = []
    for title, name in (("this boot", "boot"), ("applied", "applied")):
        document = records[name]
        lines.append(f"{title}:" if document is not None else f"{title}: nothing")
        for key, label in _LABELS:
            value = (document or {}).get(key)
            if value is not None:
                lines.append(f"  {label:<12} {_line(value)}")
        lines += _several(document or {}, "problems")
        lines += _several(document or {}, "notes")
        lines += _several(document or {}, "files")
    return "\n".join(lines)


def _several(document: dict[str, object], key: str) -> list[str]:
    """A list or mapping, an entry a line."""
    value = document.get(key)
    if isinstance(value, dict):
        entries = [f"{name}  {_written(entry)}".rstrip() for name, entry in value.items()]
    elif isinstance(value, list):
        entries = [_line(entry) for entry in value]
    else:
        return []
    return [f"  {key if number == 0 else '':<12} {entry}" for number, entry in enumerate(entries)]


def _written(value: object) -> str:
    """The paths of a file's entry, whether with their digests or without."""
    if isinstance(value, dict):
        value = list(value["written"]) if isinstance(value.get("written"), dict) else value
    if isinstance(value, list):
        return ", ".join(sorted(_line(entry) for entry in value))
    return _line(value)


def _line(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.split())
