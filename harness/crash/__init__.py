"""Power cuts at every write: a log of the writes, and the disk as each cut leaves it."""
