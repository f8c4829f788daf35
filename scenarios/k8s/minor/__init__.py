"""Nodes that come from the minor version of Kubernetes before the newest."""
