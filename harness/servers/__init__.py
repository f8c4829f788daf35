"""Real servers that scenarios and tests run beside a node, each ended with whoever started it."""
