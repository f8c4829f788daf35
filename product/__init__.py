"""The appliance: update agent, command channel, cloud-init, image and release builders.

``product.agent``, ``product.channel`` and ``product.cloudinit`` ship in the guest and import
neither ``product.image`` nor ``harness``.
"""
