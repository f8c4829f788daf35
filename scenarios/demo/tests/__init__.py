"""Unit tests of the demo; no machine starts."""
