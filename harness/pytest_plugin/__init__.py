"""The pytest plugin: options, tiers, selection, fixtures, and the summary of a run."""

# By this package's own name, which is another one where it is installed.
_PARTS = (
    "options", "usage", "run", "tier", "lab", "selection", "listing", "fixtures", "failure",
    "pause", "history", "summary", "junit",
)  # fmt: skip
pytest_plugins = tuple(f"{__name__}.{part}" for part in _PARTS)
