"""The node's figures for Prometheus: what they are called, their text format, and their service.

Two processes serve them. ``collect`` runs as root and for a moment: it writes the figures to a file
in /run. ``server`` runs without any right and all the time: it adds what the kernel tells anybody
(uptime, memory) and answers ``/metrics``, and imports next to nothing.
"""
