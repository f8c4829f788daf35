"""One target under atheris: ``python -m scenarios.fuzz.work TARGET [libFuzzer's arguments]``.

Run by ``scenarios.fuzz`` in a process of its own, which a fault ends.
"""

from __future__ import annotations

import sys

import atheris

_LED_BY = ["product", "harness", "scenarios.fuzz.targets", "tuf", "securesystemslib"]

with atheris.instrument_imports(include=_LED_BY):
    from scenarios.fuzz.targets import PLANTED, TARGETS


def main(arguments: list[str]) -> None:
    """Fuzz; never returns."""
    target = {**TARGETS, PLANTED.name: PLANTED}[arguments[1]]
    with atheris.instrument_imports(include=_LED_BY):
        # Readers are imported where they are first called.
        for seed in (b"", *target.seeds):
            target.run(seed)
    atheris.Setup([arguments[0], *arguments[2:]], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
