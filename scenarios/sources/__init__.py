"""Where nodes get releases from besides a web server."""
