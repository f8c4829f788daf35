"""Runs a node on a virtual or real machine and observes it.

``machine`` (argv, process under its supervisor, QMP, console, channel) is one QEMU; ``journal``
orders what happened to it and holds every wait; ``node`` is what scenarios speak to, behind the
``target`` protocols; ``states`` forks nodes from snapshots; ``pool`` decides when a machine may
start; ``plugin`` brings it all to pytest.
"""
