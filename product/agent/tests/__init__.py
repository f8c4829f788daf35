"""Unit tests of the update agent; they need neither root nor a network."""
