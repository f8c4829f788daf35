"""The pytest plugin: options, selection, fixtures, and the summary of a run."""

pytest_plugins = (
    "harness.pytest_plugin.options",
    "harness.pytest_plugin.selection",
    "harness.pytest_plugin.fixtures",
    "harness.pytest_plugin.summary",
)
