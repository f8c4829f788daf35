"""Boards in a lab, through labgrid; only ``harness.lab.grid`` imports labgrid."""
