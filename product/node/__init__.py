"""Kubernetes on the node: certificates, configuration, container images, recovery.

`kubesolo-node` ships in the guest and runs before the services of the image's Kubernetes payload,
so what every boot imports is the cheap part of the standard library; `cryptography` is imported
only where a certificate has to be made or looked into.
"""
