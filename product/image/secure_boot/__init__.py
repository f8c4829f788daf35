"""Images whose whole start an owner signs: keys, unified kernel images, a GRUB of the owner's own.

The firmware trusts the owner's certificate alone and starts GRUB with the boot contract built in;
that starts a slot's ``linux.efi`` alone: kernel, initramfs and command line in one signed file. See
docs/decisions/0043-own-keys.md.
"""
