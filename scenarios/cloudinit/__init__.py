"""First-boot configuration: seeds of each form, faulty ones, and what counts again when."""
