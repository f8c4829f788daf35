"""Container images without a registry: OCI archives made from locked Debian packages.

``layer`` packs a tree into reproducible bytes, ``layout`` wraps layers into an archive that
containerd imports under the image's name, ``images`` says what each image holds. Layers are not
compressed: the squashfs around the archives is, and containerd imports them faster.
"""

from product.image.oci.images import (
    BUILT,
    NAMES,
    build_archives,
    image_name,
    images_digest,
    images_drift,
    images_packages,
)

__all__ = [
    "BUILT",
    "NAMES",
    "build_archives",
    "image_name",
    "images_digest",
    "images_drift",
    "images_packages",
]
