"""Faults that scenarios inject; each proves that it happened."""
