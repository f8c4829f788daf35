"""Rootless builders: Debian packages in, bootable disk images out.

``recipe`` says what an image is made of, ``locks`` and ``packages`` fetch it, ``kernel``,
``rootfs``, ``initramfs``, ``slot`` and ``disk`` build it, ``cache`` remembers every step by the
digest of its inputs. Nothing here needs root, loop devices or Docker; nothing here ships in the
guest.
"""
