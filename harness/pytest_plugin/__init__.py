"""The pytest plugin: options, tiers, selection, fixtures, and the summary of a run."""

# By this package's own name, which is another one where it is installed.
pytest_plugins = tuple(
    f"{__name__}.{part}"
    for part in ("options", "run", "tier", "lab", "selection", "fixtures", "summary")
)
