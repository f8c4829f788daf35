"""The documents, checked like code: their commands, links, messages, options and pictures.

``pages`` reads Markdown, ``commands`` and ``claims`` hold each command to something that proves it,
``parsers`` looks options up in the real parsers, ``links`` follows links, ``messages`` collects
what the product says, ``reference`` and ``pictures`` write what is generated. ``./noxw -s docs``
runs all of it and builds the site.
"""
