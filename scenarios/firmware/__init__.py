"""The firmware of boards that QEMU does not emulate, as models that decide what boots."""
