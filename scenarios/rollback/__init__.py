"""Bad releases: the node returns to the slot that worked."""
