"""The pytest plugin: options, tiers, selection, fixtures, and the summary of a run."""

pytest_plugins = (
    "harness.pytest_plugin.options",
    "harness.pytest_plugin.run",
    "harness.pytest_plugin.tier",
    "harness.pytest_plugin.selection",
    "harness.pytest_plugin.fixtures",
    "harness.pytest_plugin.summary",
)
