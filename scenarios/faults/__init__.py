"""What agent and node do, and tell their users, when something around them fails: each scenario
arms a fault of the harness that has to happen (docs/harness/faults.md)."""
