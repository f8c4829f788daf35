"""The installer: what runs on a system that was started from a medium, and writes it to a disk."""
