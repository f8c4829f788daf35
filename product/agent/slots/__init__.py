"""The two system slots: what they hold, how the passive one is written, and their devices."""
