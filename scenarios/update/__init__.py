"""Updates: the A/B switch, interruptions, what an update leaves alone."""
