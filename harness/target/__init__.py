"""What a scenario speaks to: nodes, their sessions, and the protocols of their abilities."""
