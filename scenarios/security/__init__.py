"""Releases that a node must refuse, each by its name."""
