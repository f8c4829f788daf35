"""What the harness has to know of the system: its profile."""

from kubesolo_os.harness.profile import Profile
from kubesolo_os.product.image.cache import default_root
from kubesolo_os.product.image.tools import prepare_set

DEBIAN = Profile(
    name="debian-cloud",
    ready=r"^debian-cloud: ready version=(?P<version>\S+)$",
    smbios=("io.kubesolo.channel=virtio",),  # offers the command channel
    tools=prepare_set,  # the locked QEMU; leave it out for the one that is installed
    cache=default_root,
)
