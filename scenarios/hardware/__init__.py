"""Real machines' disks, network cards and watchdogs, as far as QEMU has them."""
