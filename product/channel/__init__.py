"""The node's end of the command channel: a framed remote command over one byte stream.

The stream is a virtio-serial port, or a bare serial line on real hardware. ``framing`` is shared
with whoever talks to a node; the rest runs on the node, on its boot path, with the standard
library's cheapest modules alone.

Requests carry ``id`` (any JSON value that the reply repeats) and ``op``:

``ping``    ``nonce``                               -> ``nonce``, ``boot_id``, ``uptime`` (s)
``exec``    ``argv``, ``stdin`` (base64, absent     -> any number of ``stream`` ("stdout" or
            for none), ``env`` (added), ``timeout``    "stderr") with ``data`` (base64), then
            (s or null)                                ``exit`` (N, -N for signal N, or null with
                                                       an ``error``)
``resync``  ``time`` (Unix s), ``entropy`` (base64) -> ``ok``

Requests are served side by side. A request that cannot be served is answered with ``error``.
"""
