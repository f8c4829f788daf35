"""JSON documents with attribute access, so that scenarios read as sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


class View:
    """A JSON object: ``view.update.phase``, ``view["update"]``, ``"update" in view``.

    A missing key raises AttributeError (or KeyError) that names the keys there are.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    @classmethod
    def parse(cls, text: str | bytes) -> View:
        """A JSON object's text; raises ValueError for anything else."""
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError(f"expected a JSON object, found {text[:80]!r}")
        return cls(document)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(str(error)) from None

    def __getitem__(self, name: str) -> Any:
        if name not in self._document:
            raise KeyError(f"no {name!r} among {sorted(self._document)}")
        return _wrap(self._document[name])

    def __contains__(self, name: object) -> bool:
        return name in self._document

    def __iter__(self) -> Iterator[str]:
        return iter(self._document)

    def __len__(self) -> int:
        return len(self._document)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, View):
            return self._document == other._document
        return self._document == other

    # Python's way to say unhashable; typeshed types it as a method.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return json.dumps(self._document, indent=1)


def _wrap(value: Any) -> Any:
    if isinstance(value, dict):
        return View(value)
    if isinstance(value, list):
        return [_wrap(item) for item in value]
    return value
