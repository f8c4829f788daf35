"""Kubernetes' own conformance tests against a node: ``./noxw -s conformance``.

``programs`` builds the tests and what their pods run from the Go module ``images/go/conformance``,
``images`` makes container images of that, ``selection`` chooses tests, ``run`` has them run against
one machine, ``results`` reads how they ended and writes the page.
"""
