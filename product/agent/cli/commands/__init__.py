"""The commands of ``kubesolo-update``, one module each.

A module has ``configure(parser)`` for its own flags, and ``run(node, options)``, which returns the
exit code. Only the module of the command that was asked for is imported.
"""
