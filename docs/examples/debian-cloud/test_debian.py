"""The first tests of somebody else's system."""

from kubesolo_os.harness.pytest_plugin.scenario import scenario
from kubesolo_os.harness.target.node import State

BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


@scenario(arch="x86_64")
def test_it_boots_and_takes_commands(harness_node):
    ready = harness_node.boot()
    assert ready.version.startswith("13")
    assert harness_node.succeed(["uname", "-m"]).text == "x86_64"


@scenario(arch="x86_64")
def test_a_reboot_is_another_boot(harness_node):
    harness_node.at(State.READY)
    before = harness_node.succeed(BOOT_ID).text
    with harness_node.expect_boots(1):
        harness_node.reboot()
    harness_node.wait_ready()
    assert harness_node.succeed(BOOT_ID).text != before
