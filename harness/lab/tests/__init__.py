"""Tests of targets in a lab."""
