"""The USB network card of a board, plugged in anew at each boot.

U-Boot looks for devices on USB and so takes note of each that is there. QEMU's controller does not
tell of it a second time, because it takes no reset: Linux then sees nothing on the bus. So the card
is plugged in when U-Boot is done, which the boot loader's first words say.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from harness.errors import HarnessError
from harness.journal.journal import Journal, Source

_CARD = "nic0"


class UsbCard:
    """Plugs the card in whenever the boot loader has decided; ``feed`` takes the console's bytes.

    ``qmp`` executes a command, as Machine.qmp does. ``sign`` is the profile's ``boot_text``. What
    goes wrong fails whoever waits for the machine next. Raises HarnessError without a sign.
    """

    def __init__(self, qmp: Callable[..., object], journal: Journal, sign: str) -> None:
        if not sign:
            raise HarnessError(
                "a board's network card is plugged in once its boot loader has decided, and the "
                "profile does not say what the console shows then",
                hint="set boot_text in the profile, or network=False for the machine",
            )
        self._sign = sign.encode()
        self._qmp = qmp
        self._journal = journal
        self._tail = b""
        self._boots: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="usb card", daemon=True)
        self._thread.start()

    def feed(self, data: bytes) -> None:
        """Take the console's next bytes."""
        seen = self._tail + data
        for _ in range(seen.count(self._sign)):
            self._boots.put(True)
        self._tail = b"" if seen.endswith(self._sign) else seen[-(len(self._sign) - 1) :]

    def close(self) -> None:
        """Plug in nothing more; returns when nothing is under way."""
        self._boots.put(False)
        self._thread.join()

    def _run(self) -> None:
        plugged = False
        while self._boots.get():
            try:
                if plugged:
                    self._qmp("device_del", id=_CARD)
                self._qmp("device_add", driver="usb-net", id=_CARD, netdev="net0", port="1")
                plugged = True
            except HarnessError as error:
                self._journal.broken("usb card", error)
                return
            self._journal.append(Source.HARNESS, "note", "the network card was plugged in")
