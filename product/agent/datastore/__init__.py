"""Copies of Kubernetes' datastore, and which of them a boot uses."""
