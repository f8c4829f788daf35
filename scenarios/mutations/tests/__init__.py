"""Unit tests of the mutation bench."""
