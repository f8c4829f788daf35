"""Where things lie on the node; ``root`` moves all of them, which is how tests run."""

from __future__ import annotations


class Paths:
    """Absolute paths of the files that the agent reads and writes."""

    def __init__(self, root: str = "/") -> None:
        base = root.rstrip("/")
        self.root = base or "/"
        self._base = base
        # Written by early boot and by the image.
        self.boot = f"{base}/run/kubesolo/boot.json"
        self.early = f"{base}/run/kubesolo/early"
        self.release = f"{base}/usr/lib/kubesolo/release.json"
        self.payload = f"{base}/usr/lib/kubesolo/payload.json"
        self.ssh = f"{base}/usr/lib/kubesolo/services/ssh"
        self.loader = f"{base}/usr/lib/kubesolo/loader"
        self.config = f"{base}/etc/kubesolo/update.conf"
        self.timezone = f"{base}/etc/kubesolo/timezone"
        # What /etc/localtime leads to; left by stage 46.
        self.localtime = f"{base}/run/kubesolo/localtime"
        self.hooks = f"{base}/etc/kubesolo/hooks.d"
        self.authorized_keys = f"{base}/etc/kubesolo/authorized_keys"
        # On the data partition.
        self.data = f"{base}/var/lib/kubesolo"
        self.state = f"{self.data}/update/state.json"
        self.history = f"{self.data}/update/history.jsonl"
        self.counters = f"{self.data}/update/counters.json"
        self.quarantine = f"{self.data}/update/quarantine.json"
        self.last_check = f"{self.data}/update/last-check.json"
        # What became of the sticks that were plugged in.
        self.sticks = f"{self.data}/update/sticks.json"
        self.metadata = f"{self.data}/update/metadata"
        self.baseline = f"{self.data}/update/baseline.json"
        self.datastore = f"{self.data}/update/datastore"
        # What time it was, for a clock that forgets it.
        self.known_time = f"{self.data}/time/known"
        # Where a payload names no other.
        self.kubeconfig = f"{self.data}/pki/admin/admin.kubeconfig"
        # Logs of all boots, and of this one; without a data partition of this one alone.
        self.logs = f"{base}/mnt/data/log"
        self.own_logs = f"{base}/var/log"
        self.pstore = f"{base}/sys/fs/pstore"
        # Gone with the boot.
        self.run = f"{base}/run/kubesolo"
        self.problems = f"{self.run}/problems"
        self.inhibitors = f"{self.run}/inhibit.d"
        # The sticks that were tried in this boot, and in how many seconds the service asks again.
        self.tried_sticks = f"{self.run}/usb-tried"
        self.ask_again = f"{self.run}/usb-again"
        # When the schedule looks next, in seconds since 1970.
        self.next_check = f"{self.run}/next-check"
        self.lock = f"{self.run}/update.lock"
        # Of the resident process, see product.agent.services.fork_server.
        self.agent_socket = f"{self.run}/agent.sock"
        self.counters_lock = f"{self.run}/counters.lock"
        # What is served of the figures, and where: root writes, another user reads.
        self.metrics = f"{self.run}/metrics"
        # Left by stage 45, see product.cloudinit.record.
        self.configuration = f"{self.run}/config.json"
        self.report = f"{self.run}/agent.json"
        # Why stage 25 could not bring the data to this release's layout.
        self.migration_failed = f"{self.run}/migration-failed"
        # The public half of the SSH server's key, once it serves.
        self.ssh_host_key = f"{self.run}/ssh-host-key"
        self.esp_mount = f"{self.run}/esp"
        self.slot_mount = f"{self.run}/slot"
        self.booted_mount = f"{self.run}/booted"
        # A slot's boot partition, where it has one.
        self.boot_mount = f"{self.run}/boot"
        # One a slot, because two processes may look at different slots at once.
        self.view_mounts = {slot: f"{self.run}/view-{slot}" for slot in ("A", "B")}
        # Where SystemVolumes mounts, and nobody else does.
        self.own_mounts = (
            self.esp_mount, self.slot_mount, self.booted_mount, self.boot_mount,
            *self.view_mounts.values(),
        )  # fmt: skip
        self.services = f"{base}/run/service"
        # When DHCP began to ask for each interface's address.
        self.dhcp = f"{self.run}/dhcp"
        # What the service network, the DHCP client and chronyd made of the configuration.
        self.network = f"{self.run}/network"
        self.resolver = f"{base}/run/resolv.conf"
        self.time = f"{self.run}/time"
        self.chrony = f"{base}/run/chrony/chronyd.sock"
        # Inside the mounted KSOLOEFI.
        self.environment = "boot/grub/grubenv"
        # The kernel.
        self.console = f"{base}/dev/console"
        self.screen = f"{base}/dev/tty0"
        # Every console; the last one is what /dev/console is.
        self.consoles = f"{base}/sys/class/tty/console/active"
        self.kmsg = f"{base}/dev/kmsg"
        self.sys = f"{base}/sys"
        self.proc = f"{base}/proc"
        self.mountinfo = f"{base}/proc/self/mountinfo"
        self.efi = f"{base}/sys/firmware/efi"
        self.efi_variables = f"{self.efi}/efivars"
        self.hostname = f"{base}/proc/sys/kernel/hostname"

    def under(self, path: str) -> str:
        """Where ``path``, as the image's own files name it, lies for this node."""
        return f"{self._base}{path}"
