"""What lies in the root: who may read it, and under which licences."""

from __future__ import annotations

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State

# Packages of the running system, the kernel's by a pattern, the boot loader's, one that the image
# leaves out but whose text another one needs, and the product's own.
WITH_A_TEXT = (
    "busybox-static",
    "libgcc-s1",
    "linux-image-*",
    "grub-efi-*-signed",
    "shim-signed",
    "kubesolo-os",
)


@scenario()
def test_the_root_keeps_modes_and_licences(node: Node) -> None:
    node.at(State.READY, slot="A")
    assert node.succeed("stat -c '%a %U:%G' /etc/shadow").text == "640 root:shadow"
    texts = " ".join(f"/usr/share/doc/{name}/copyright" for name in WITH_A_TEXT)
    lacking = node.succeed(f"for text in {texts}; do test -s $text || echo $text; done").text
    assert lacking == ""
    # Each text that another one refers to.
    lacking = node.succeed(
        "cat /usr/share/doc/*/copyright |"
        " grep -o '/usr/share/common-licenses/[A-Z][A-Za-z]*-[0-9.]*[0-9]' | sort -u |"
        " while read name; do test -s $name || echo $name; done"
    ).text
    assert lacking == ""
