"""The installer: choice of a disk, and writing it."""
