"""The command line: parsing flags, printing results; commands has a module a command."""
