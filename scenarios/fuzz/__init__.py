"""Fuzzing: every reader of bytes that others wrote, fed with inputs that coverage leads to."""
