"""HTTP connections of the agent."""
