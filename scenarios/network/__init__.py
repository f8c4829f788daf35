"""Networks as they are found on site: static, tagged, bonded, without a router; and the time."""
