"""The update agent that ships in the node: ``kubesolo-update``.

It finds a release, writes it into the passive slot, arms the boot loader, judges the boot that
follows and commits or rolls back. Modules here load on the node's boot path, so they use the
standard library alone and leave its costly parts to the commands that need them. Each package
imports only from those below it (product/agent/tests/test_layers.py).
"""
