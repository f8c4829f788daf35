"""A whole release by one command: built, tested, signed, described and served.

``gates`` says what keeps a release from being made: ``checkout`` what git knows, ``changelog`` what
is new, ``matrix`` what was tested. ``pipeline`` lists the steps, which ``steps`` runs and takes up
again where they were cut off; ``artefacts`` are the files, ``provenance`` says what they were built
from. ``command`` is the command line. Decision 35 has the reasons, ``docs/publishing.md`` the
handbook.
"""
