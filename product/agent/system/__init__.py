"""Files, disks, processes and clocks, for every other package of the agent."""
