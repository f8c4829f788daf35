"""Where the node's Kubernetes lies; ``root`` moves all of it, which is how tests run."""

from __future__ import annotations


class NodePaths:
    """Absolute paths of what `kubesolo-node` reads and writes."""

    def __init__(self, root: str = "/") -> None:
        base = root.rstrip("/")
        # The image's.
        self.release = f"{base}/usr/lib/kubesolo/release.json"
        self.payload = f"{base}/usr/lib/kubesolo/payload.json"
        self.manifests = f"{base}/usr/lib/kubesolo/manifests"
        # The kernel's.
        self.hostname = f"{base}/proc/sys/kernel/hostname"
        self.cpus = f"{base}/sys/devices/system/cpu/online"
        self.memory = f"{base}/proc/meminfo"
        self.most_pids = f"{base}/proc/sys/kernel/pid_max"
        self.most_threads = f"{base}/proc/sys/kernel/threads-max"
        self.kernel_network = f"{base}/proc/net"
        self.sys = f"{base}/sys"
        self.kill_pods = f"{base}/sys/fs/cgroup/kubepods/cgroup.kill"
        self.devices = f"{base}/sys/class/net"
        self.console = f"{base}/dev/console"
        self.kmsg = f"{base}/dev/kmsg"
        # On the data partition.
        self.settings = f"{base}/etc/kubesolo/kubernetes.json"
        self.data = f"{base}/var/lib/kubesolo/kubernetes"
        self.asides = f"{base}/var/lib/kubesolo/update/datastore"
        self.pki = f"{self.data}/pki"
        self.static_pods = f"{self.data}/manifests"
        self.defaults = f"{self.data}/defaults.json"
        self.encryption = f"{self.data}/encryption"
        self.audit = f"{self.data}/audit"
        self.kubelet = f"{base}/var/lib/kubelet"
        self.imported = f"{base}/var/lib/containerd/kubesolo-images.json"
        # Gone with the boot.
        self.services = f"{base}/run/service"
        self.run = f"{base}/run/kubesolo"
        self.early = f"{self.run}/early"
        self.report = f"{self.run}/agent.json"
        self.network = f"{self.run}/network"
        self.resolver = f"{base}/run/resolv.conf"
        self.problems = f"{self.run}/problems"
        self.config = f"{self.run}/kubernetes"
        self.node_name = f"{self.config}/node"
        self.address = f"{self.config}/address"
        self.plan = f"{self.config}/plan"
        self.announcement = f"{self.config}/announcement"
        self.ready = f"{self.config}/ready"
        self.objects_note = f"{self.config}/objects.json"
        self.objects_applied = f"{self.config}/objects.yaml"
        self.objects_made = f"{self.config}/objects-made.json"
        self.import_request = f"{self.config}/import"
        self.rewrite_request = f"{self.config}/rewrite"
        self.secrets = f"{self.config}/secrets.json"
        self.api_filter = f"{self.config}/api-filter"
        self.etcd_socket = f"{self.config}/etcd.sock"
        self.probe = f"{self.config}/probe"
        self.recoveries = f"{self.config}/recoveries"
