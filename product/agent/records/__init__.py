"""What the agent writes down: the state of an update, the history, the quarantine."""
