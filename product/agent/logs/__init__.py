"""Logs of this boot and of those before it: who wrote what, and what failed boots left behind."""
