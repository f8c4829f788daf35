"""Tests of the names under which the project is installed."""
