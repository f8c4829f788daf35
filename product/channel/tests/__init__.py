"""Tests of the command channel's node end."""
