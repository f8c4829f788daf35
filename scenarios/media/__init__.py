"""Nodes from what the project ships beside the plain disk image."""
