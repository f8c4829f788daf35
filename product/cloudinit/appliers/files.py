"""Files of the user's own, below /etc/kubesolo and /var/lib/kubesolo."""

from __future__ import annotations

from product.cloudinit.planned import Part, PlannedFile
from product.cloudinit.write_files import WriteFile


def plan(entries: tuple[WriteFile, ...] | None) -> Part:
    """Entries that append to a file of the same list become part of it."""
    planned: dict[str, PlannedFile] = {}
    for entry in entries or ():
        earlier = planned.get(entry.path)
        content = entry.data()
        if entry.append and earlier is not None:
            planned[entry.path] = earlier._replace(content=earlier.content + content)
        else:
            planned[entry.path] = PlannedFile(entry.path, content, entry.permissions, entry.append)
    return Part(tuple(planned.values()))
