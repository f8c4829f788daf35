"""Which release to trust: TUF metadata, the pinned keys and the floor of time."""
