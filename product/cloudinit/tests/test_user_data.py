"""user-data: its header, its keys, and what each error says."""

from __future__ import annotations

import pytest

from product.cloudinit.cloud_keys import HARMLESS, NOTED, REFUSED
from product.cloudinit.load import load_meta_data, load_user_data
from product.cloudinit.tests.support import ED25519, problems_of, user_data


def errors(body: str) -> list[tuple[int, str, str]]:
    """Line, key and message of each error."""
    found = problems_of(load_user_data, user_data(body))
    return [(problem.line, problem.key, problem.message) for problem in found]


def only(body: str) -> str:
    """The message of the one error."""
    ((_, _, message),) = errors(body)
    return message


@pytest.mark.parametrize("first", ["#cloud-config", "#cloud-config  ", "\ufeff#cloud-config\t"])
def test_the_header_may_have_trailing_blanks_and_a_byte_order_mark(first: str) -> None:
    found = load_user_data(f"{first}\nhostname: edge-07\n".encode())
    assert found.config.host == "edge-07"


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("hostname: edge-07", "missing; it is 'hostname: edge-07'"),
        ("", "missing; it is an empty line"),
        (" #cloud-config", "missing"),
        ("# cloud-config", "misspelt; it is '# cloud-config'"),
        ("#cloud_config", "misspelt"),
        ("#Cloud-Config", "misspelt"),
        ("#cloudconfig", "misspelt"),
        ("#cloud-config:", "misspelt"),
        ("##cloud-config", "misspelt"),
        ("#!/bin/sh", "is a script"),
        ("## template: jinja", "template for jinja"),
        ("Content-Type: multipart/mixed", "MIME"),
        ("#include", "includes other files"),
        ("#cloud-config-archive", "archive"),
        ("#cloud-boothook", "is a script"),
        ("#part-handler", "is a program"),
    ],
)
def test_another_first_line_is_one_error_that_says_what_was_expected(first: str, said: str) -> None:
    (problem,) = problems_of(load_user_data, f"{first}\nhostname: edge-07\n".encode())
    assert said in problem.message
    assert (problem.line, problem.column) == (1, 1)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"#cloud-config", b"#cloud-config\n---\n"])
def test_a_file_that_says_nothing_is_said(data: bytes) -> None:
    (note,) = load_user_data(data).notes
    assert note.message in ("the file is empty", "the file sets nothing")


@pytest.mark.parametrize("body", ["- a\n", "text\n", "'hostname: x'\n"])
def test_what_is_no_mapping(body: str) -> None:
    assert "needs keys such as `hostname: edge-07`" in only(body)


@pytest.mark.parametrize(
    "name", ["1234", "0755", "1e3", "no", "2026-11-01", "edge-07", "a" * 63, "null-1"]
)
def test_a_host_name_is_the_text_as_it_stands(name: str) -> None:
    assert load_user_data(user_data(f"hostname: {name}\n")).config.host == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("edge_07", "has '_'; a name has a-z, 0-9 and hyphens; write edge-07"),
        ("Edge-07", "has capitals, which Kubernetes refuses; write edge-07"),
        ("a" * 64, "has 64 letters; at most 63 are allowed"),
        ("$(reboot)", "has '$'"),
        ("kühlraum", "has 'ü'"),
        ("-edge", "neither begins nor ends with a hyphen"),
        ("edge-", "neither begins nor ends with a hyphen"),
        ("localhost", "is the name of every machine"),
        ("localhost.localdomain", "is the name of every machine"),
        ("edge..site", "has a dot too many"),
        ("edge.", "has a dot too many"),
        ("10.20.0.5", "is an address, not a name"),
        ('""', "is empty"),
        ('"a\\nb"', "has '\\n'"),
        ('"../../x"', "has a dot too many"),
        ("[a]", "needs text, found a list"),
        ("{a: b}", "needs text, found a mapping"),
    ],
)
def test_a_host_name_that_kubernetes_would_refuse_is_one_error(name: str, said: str) -> None:
    ((line, key, message),) = errors(f"hostname: {name}\n")
    assert (line, key) == (2, "hostname")
    assert said in message


def test_the_first_label_of_a_long_name_counts_and_hostname_before_fqdn() -> None:
    found = load_user_data(user_data("hostname: edge.site.example\n"))
    assert found.config.host == "edge"
    assert "the first label" in found.notes[0].message
    found = load_user_data(user_data("fqdn: edge.site.example\n"))
    assert (found.config.host, found.notes) == ("edge", ())
    found = load_user_data(user_data("fqdn: a.site.example\nhostname: b\n"))
    assert found.config.host == "b"
    assert "hostname counts" in found.notes[0].message


def test_a_name_that_kubernetes_cuts_is_said() -> None:
    (note,) = load_user_data(user_data(f"hostname: {'a' * 53}\n")).notes
    assert "the first 52 letters" in note.message
    assert not load_user_data(user_data(f"hostname: {'a' * 52}\n")).notes


def test_no_value_is_as_if_the_key_were_not_there() -> None:
    body = "".join(
        f"{key}:\n" for key in ("hostname", "network", "kubesolo", "updates", "ntp", "write_files")
    )
    assert load_user_data(user_data(body)) == load_user_data(user_data("hostname: ~\n"))


def test_all_errors_come_at_once_in_the_order_of_the_lines() -> None:
    found = errors(
        "hostnam: x\nhostname: A\nupdates: {chanel: x}\nruncmd: [ls]\nntp: {servers: [a_b]}\n"
        "kubesolo: {mtu: x}\nnetwork: {version: 3}\ntimezone: Europe/Berln\n"
    )
    assert [(line, key) for line, key, _ in found] == [
        (2, "hostnam"), (3, "hostname"), (4, "updates.chanel"), (5, "runcmd"),
        (6, "ntp.servers[0]"), (7, "kubesolo.mtu"), (8, "network.version"), (9, "timezone"),
    ]  # fmt: skip
    assert "did you mean hostname?" in found[0][2]
    assert "did you mean channel?" in found[2][2]
    assert "did you mean Europe/Berlin?" in found[7][2]


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_a_key_that_an_appliance_cannot_serve_is_an_error_with_its_reason(key: str) -> None:
    ((line, found, message),) = errors(f"{key}: [x]\n")
    assert (line, found, message) == (2, key, REFUSED[key])
    assert len(message.split()) >= 4


@pytest.mark.parametrize("key", sorted(NOTED))
def test_a_key_that_changes_nothing_is_a_note(key: str) -> None:
    (note,) = load_user_data(user_data(f"{key}: true\n")).notes
    assert note.key == key
    assert note.message.startswith("is passed over: ")


def test_a_key_within_a_block_that_changes_nothing_is_a_note() -> None:
    found = load_user_data(user_data("ntp: {ntp_client: ntp, config: {a: b}, servers: [a]}\n"))
    assert [note.key for note in found.notes] == ["ntp.ntp_client", "ntp.config"]
    assert found.config.ntp is not None
    assert found.config.ntp.servers == ("a",)


def test_a_refused_key_that_asks_for_nothing_is_a_note() -> None:
    for key, values in HARMLESS.items():
        for value in (*values, "[]", ""):
            (note,) = load_user_data(user_data(f"{key}: {value}\n")).notes
            assert note.key == key
    assert "keys alone" in only("ssh_pwauth: true\n")


def test_a_key_of_a_block_at_the_top_is_led_there() -> None:
    assert only("portainer-edge-id: x\n") == "belongs below `kubesolo:`"
    assert only("maintenance_window: 22:00-02:00\n") == "belongs below `updates:`"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("timezone: Europe/Atlantis\n", "is no time zone of the image"),
        ("timezone: ../../etc/passwd\n", "is no time zone of the image"),
        ("timezone: US/Pacific\n", "write America/Los_Angeles"),
        ("timezone: CET\n", "write Europe/Brussels"),
        ("timezone: berlin\n", "write Europe/Berlin"),
        ("timezone: New York\n", "write America/New_York"),
        ("timezone: posixrules\n", "is no time zone of the image"),
        ("ntp: ntp.example.org\n", "needs a mapping, found text"),
        ("ntp: {servers: ntp.example.org}\n", "needs a list, found text"),
        ("ntp: {servers: ['a:99999']}\n", "is not a port"),
        ("ntp: {servers: ['https://a/']}\n", "is not a port"),
        ("ntp: {servers: [a/b]}\n", "is not a host"),
        ('ntp: {servers: ["a\\nserver b"]}\n', "a name has a-z"),
        ("ntp: {enabled: false, servers: [a]}\n", "is false, and there are servers"),
        ("final_message: ''\n", "is empty"),
        (f"final_message: {'x' * 5000}\n", "at most 4096"),
        ("kubeconfig: yes\n", "needs to-seed"),
        ("ca_certs: {remove_defaults: true}\n", "need the image's authorities"),
        ("ca-certs: {remove-defaults: true}\n", "need the image's authorities"),
        ("ca_certs: {}\nca-certs: {}\n", "is the same as ca_certs"),
        ("ca_certs: {trusted: [/etc/ca.pem]}\n", "is a path"),
        ("ca_certs: {trusted: text}\n", "needs a list, found text"),
        ("ssh_authorized_keys: [x]\n", "is no type of key"),
        ('final_message: "\\e[2J gone"\n', "has '\\x1b', which cannot be printed"),
        ('final_message: "a\\rb"\n', "has '\\r', which cannot be printed"),
        ('final_message: "a\\N"\n', "has '\\x85', which cannot be printed"),
        ("final_message: 'kubesolo-update: ready version=9'\n", "looks like the node's own"),
        ('final_message: "hello\\n  kubesolo: problem: x"\n', "looks like the node's own"),
        ("write_files: {path: x}\n", "needs a list, found a mapping"),
        ("updates: text\n", "needs a mapping, found text"),
        ("kubesolo: [x]\n", "needs a mapping of KubeSolo's settings"),
        ("hostname: {{name}}\n", "unfilled template"),
    ],
)
def test_a_wrong_value_is_one_error(body: str, said: str) -> None:
    assert said in only(body)


def test_a_file_of_unknown_keys_has_a_hundred_errors_and_says_how_many_more() -> None:
    from product.cloudinit.errors import InvalidFileError

    body = "".join(f"hostnam{number}: x\n" for number in range(3000))
    with pytest.raises(InvalidFileError, match="and 2900 errors more") as caught:
        load_user_data(user_data(body))
    assert len(caught.value.problems) == 100


def test_meta_data() -> None:
    found = load_meta_data(b"instance-id: 7\nlocal-hostname: edge.site.example\n")
    assert (found.instance_id, found.local_hostname) == ("7", "edge")
    assert load_meta_data(b"").instance_id is None
    assert load_meta_data(b'{"instance_id": "a b"}').instance_id == "a b"
    for data, said in (
        (b"instance-id: [x]\n", "needs text, found a list"),
        (b'instance-id: "a\\nb"\n', "needs one line"),
        (b"instance-id: " + b"x" * 300, "at most 256"),
        (b"local-hostname: A\n", "has capitals"),
        (b"- x\n", "needs keys such as"),
    ):
        (problem,) = problems_of(load_meta_data, data)
        assert said in problem.message


def test_an_ssh_key_is_kept_as_it_stands() -> None:
    found = load_user_data(user_data(f"ssh_authorized_keys:\n- {ED25519}\n"))
    assert found.config.ssh_authorized_keys == (ED25519,)


def test_a_message_may_have_lines_and_tabs() -> None:
    found = load_user_data(user_data('final_message: "kubesolo is up\\n\\tat edge-07: \u00fc"\n'))
    assert found.config.final_message == "kubesolo is up\n\tat edge-07: \u00fc"
