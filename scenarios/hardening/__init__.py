"""An attacker on the node, the network or the disk."""
