"""The journal of everything that happens to a machine, and what its lines mean."""
