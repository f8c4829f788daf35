"""What runs beside the command line: the judge of a boot, and the pods' requests."""
