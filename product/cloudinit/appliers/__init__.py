"""One module a subject: ``plan`` gives the files that a part of the configuration wants."""
