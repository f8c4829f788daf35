"""Tests of first-boot configuration."""
