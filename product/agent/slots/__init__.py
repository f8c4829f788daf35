"""The two system slots: what they hold, their devices, how the passive one is written, and how a
file is made of an older one and a delta."""
