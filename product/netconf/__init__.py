"""The network that ``/etc/kubesolo/network.json`` asks for, put into effect on the node.

``document`` reads the file, ``cards`` what hardware there is; ``plan`` is pure and says which
interfaces, addresses and routes that makes, ``client`` what dhcpcd is told; ``effect`` does it and
records how it went for the status. The format is that of docs/decisions/0017.
"""
