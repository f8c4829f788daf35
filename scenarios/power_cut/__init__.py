"""Power cuts at moments that are chosen."""
