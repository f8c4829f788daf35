"""Breaking the product on purpose: each promise once, to see the scenario that watches it fail.

``table`` reads the mutations from ``fixtures/mutations.toml``; ``run`` applies one to a copy of the
checkout (``copies``) and runs the scenarios that must notice, after they have passed on an
unmutated one; ``witness`` is the pytest plugin that says how they ended. ``results`` keeps that
with digests of what it was measured on (``digests``), ``freshness`` says which results still count,
and ``document`` writes ``docs/mutations.md``.
"""
