"""Runs a node on a virtual or real machine and observes it.

``qemu`` is one QEMU machine (argv, process under its supervisor, monitor, disks), the snapshots
that nodes are forked from and the pool that decides when a machine may start; ``journal`` orders
what happened to it and holds every wait; ``console`` and ``commands`` are the ways in; ``target``
is what scenarios speak to; ``faults`` break its surroundings and ``servers`` run real ones beside
it; ``report`` tells what happened; ``pytest_plugin`` brings it all to pytest. Each package imports
only from those below it (harness/tests/test_layers.py).
"""
