"""Power cuts at every write of a node's life: its writes are recorded, each state of the disk that
a cut could have left is judged, and each kind of state is booted."""
