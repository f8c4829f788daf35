"""QEMU machines: their specification, process, monitor, disks, snapshots and the pool of them."""
