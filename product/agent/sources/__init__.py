"""Where releases come from, and how their artifacts are fetched."""
