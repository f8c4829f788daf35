"""Breaking the product on purpose: each promise once, to see the scenario that watches it fail.

``table`` reads the mutations from ``fixtures/mutations.toml``, ``run`` applies one to a copy of the
checkout and runs the scenarios that must notice, ``witness`` is the pytest plugin that says how
they ended, ``document`` writes ``docs/mutations.md``.
"""
