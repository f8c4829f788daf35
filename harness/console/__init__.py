"""The serial console: recording it, reading it, typing on it."""
