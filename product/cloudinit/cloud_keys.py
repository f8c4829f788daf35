"""Keys of cloud-init that a node cannot serve, each with the reason, and those it passes over."""

from __future__ import annotations

from collections.abc import Mapping

_NO_PROGRAMS = "is not supported: a seed runs no programs on an appliance; run them in a pod"
_NO_PACKAGES = (
    "is not supported: the root is read-only and has no package manager; run software in a pod"
)
_NO_USERS = (
    "is not supported: the node has no users to log in; give root keys by ssh_authorized_keys"
)
_NO_DISKS = (
    "is not supported: the image's disk layout is fixed; the first boot grows the data partition"
)
_NO_SERVICE = "is not supported: the node has no such service"
_NO_PHONE = "is not supported: the node reports to nobody at its first boot"
_OWN_NAME = "the node keeps its own name and /etc/hosts"

# An error: what was asked for would not be done.
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("runcmd", "bootcmd", "cloud_init_modules", "cloud_config_modules",
                     "cloud_final_modules", "vendor_data", "scripts_user"), _NO_PROGRAMS),
    **dict.fromkeys(("packages", "snap", "apt", "apt_sources", "apt_mirror", "apt_proxy",
                     "yum_repos", "zypper",
                     "apk_repos", "pip", "ubuntu_advantage", "ubuntu_pro", "drivers",
                     "byobu_by_default"), _NO_PACKAGES),
    **dict.fromkeys(("users", "user", "groups", "password", "chpasswd", "ssh_import_id",
                     "plain_text_passwd", "system_info"), _NO_USERS),
    **dict.fromkeys(("disk_setup", "fs_setup", "mounts", "swap", "bootcmd_disks",
                     "device_aliases"), _NO_DISKS),
    **dict.fromkeys(("ansible", "chef", "puppet", "salt_minion", "mcollective", "landscape",
                     "rsyslog", "rh_subscription", "spacewalk", "lxd", "wireguard", "fan",
                     "keyboard", "locale", "grub_dpkg", "rpi"), _NO_SERVICE),
    "phone_home": _NO_PHONE,
    "power_state": "is not supported: a node goes on after its first boot",
    "ssh_keys": "is not supported: the node makes its own host keys",
    "ssh_pwauth": "is not supported: the SSH server takes keys alone",
    "resolv_conf": "is not supported: name servers belong to `network`",
    "manage_resolv_conf": "is not supported: name servers belong to `network`",
    "write_file": "is written write_files, with an s",
    "output": "is not supported: logs of the node lie in /var/log",
    "datasource": "is not supported: the seed is what was found; nothing else is looked for",
    "merge_how": "is not supported: one file is read; there is nothing to merge",
    "merge_type": "is not supported: one file is read; there is nothing to merge",
    "user-data": "is the file's name, not a key; move what is below it to the left",
    "autoinstall": "is for an installer; this image is installed by writing it to the disk",
    "k3s": "is for another system; KubeSolo's settings belong to `kubesolo`",
    "coreos": "is for another system; see docs/configuration.md for the keys of this one",
    "k3os": "is for another system; see docs/configuration.md for the keys of this one",
    "stages": "is for another system; see docs/configuration.md for the keys of this one",
    "ethernets": "belongs to the file network-config, or below `network:`",
}  # fmt: skip
# Values with which a refused key asks for nothing, as in files that list everything.
HARMLESS: Mapping[str, tuple[str, ...]] = {
    "ssh_pwauth": ("false", "no", "off"),
    "users": (),
    "packages": (),
    "manage_resolv_conf": ("false", "no", "off"),
}
# A note: it is so already, or makes no difference to what the node is.
NOTED: Mapping[str, str] = {
    "growpart": "the first boot always grows the data partition",
    "resize_rootfs": "the first boot always grows the data partition",
    "package_update": "there is no package manager; updates come as whole releases",
    "package_upgrade": "there is no package manager; updates come as whole releases",
    "package_reboot_if_required": "there is no package manager; updates come as whole releases",
    "preserve_hostname": _OWN_NAME,
    "prefer_fqdn_over_hostname": _OWN_NAME,
    "manage_etc_hosts": _OWN_NAME,
    "disable_root": "root is the only user, and logs in by key alone",
    "ssh_deletekeys": "the node makes its host keys once",
    "ssh_genkeytypes": "the node makes its host keys once",
    "ssh_quiet_keygen": "the node makes its host keys once",
    "no_ssh_fingerprints": "the fingerprint stands on the console",
    "ssh_publish_hostkeys": "the fingerprint stands on the console",
    "ssh": "the fingerprint stands on the console",
    "random_seed": "the kernel gathers its own",
    "allow_public_ssh_keys": "keys are those of ssh_authorized_keys",
    "version": "means nothing here",
}
# The same, of a block that has a meaning here.
NOTED_BELOW: Mapping[str, Mapping[str, str]] = {
    "ntp": {
        "ntp_client": "the node has chrony",
        "config": "the node writes chrony's configuration itself",
    },
}
