"""Tests of what scenarios share."""
