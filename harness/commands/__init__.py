"""Ways to run commands in a node."""
