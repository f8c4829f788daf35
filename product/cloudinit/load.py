"""From bytes to what they mean: user-data, network-config, meta-data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from product.cloudinit.cloud_keys import HARMLESS, NOTED, NOTED_BELOW, REFUSED
from product.cloudinit.document import Document, Value, parse, parse_text, read_text
from product.cloudinit.errors import InvalidFileError, Problem, in_order

if TYPE_CHECKING:
    from product.cloudinit.network import Network
    from product.cloudinit.schema import CloudConfig

HEADER = "#cloud-config"
# First lines of what cloud-init reads and a node does not, with what to say of it.
_OTHER_HEADERS = (
    ("## template:", "is a template for jinja; fill it in before it is handed to the node"),
    ("#!", "is a script; a seed runs no programs on an appliance"),
    ("Content-Type:", "is a MIME message; hand in the cloud-config part alone"),
    ("MIME-Version:", "is a MIME message; hand in the cloud-config part alone"),
    ("From ", "is a MIME message; hand in the cloud-config part alone"),
    ("#include", "includes other files; hand in one cloud-config"),
    ("#cloud-config-archive", "is an archive of files; hand in one cloud-config"),
    ("#cloud-config-jsonp", "is a patch; hand in one cloud-config"),
    ("#cloud-boothook", "is a script; a seed runs no programs on an appliance"),
    ("#upstart-job", "is a job for upstart; a seed runs no programs on an appliance"),
    ("#part-handler", "is a program; a seed runs no programs on an appliance"),
)
_INSTANCE_MAX = 256


@dataclass(frozen=True, slots=True)
class UserData:
    """What user-data asks for; ``empty`` is a file that says nothing."""

    config: CloudConfig
    notes: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class MetaData:
    """``instance_id`` says when the configuration is applied anew."""

    instance_id: str | None = None
    local_hostname: str | None = None
    notes: tuple[Problem, ...] = ()


def load_user_data(data: bytes, name: str = "user-data") -> UserData:
    """Raises InvalidFileError with all faults of the file."""
    from product.cloudinit.checking import kind, validate
    from product.cloudinit.schema import CloudConfig

    text = read_text(data, name)
    if not text.strip():
        return UserData(CloudConfig(), (Problem(name, 1, 1, "", "the file is empty"),))
    _require_header(text, name)
    document = parse_text(text, name)
    root = document.root
    if root is None:
        return UserData(CloudConfig(), (Problem(name, 1, 1, "", "the file sets nothing"),))
    if not isinstance(root, dict):
        raise InvalidFileError(
            [document.problem((), f"needs keys such as `hostname: edge-07`, found {kind(root)}")]
        )
    problems: list[Problem] = []
    notes: list[Problem] = []
    values = _known(document, root, problems, notes)
    _read_network_block(document, values, problems, notes)
    config = validate(CloudConfig, values, document, (), problems)
    if problems or config is None:
        raise InvalidFileError(problems)
    return UserData(config, in_order([*notes, *_remarks(document, config)]))


def _require_header(text: str, name: str) -> None:
    first = text.partition("\n")[0]
    if first.rstrip() == HEADER:
        return
    for start, message in _OTHER_HEADERS:
        if first.lower().startswith(start.lower()) and first.rstrip() != HEADER:
            raise InvalidFileError([Problem(name, 1, 1, "", f"the file {message}")])
    bare = re.sub(r"[^a-z]", "", first.lower())
    found = f"{first[:40]!r}" if first.strip() else "an empty line"
    what = "is misspelt" if bare.startswith("cloudconfig") and first[:1] == "#" else "is missing"
    message = f"the first line must be {HEADER}, which {what}; it is {found}"
    raise InvalidFileError([Problem(name, 1, 1, "", message)])


def _known(
    document: Document, root: dict[str, Value], problems: list[Problem], notes: list[Problem]
) -> dict[str, Any]:
    """``root`` without the keys of cloud-init that are refused or passed over by name."""
    from product.cloudinit.schema import CloudConfig
    from product.cloudinit.settings import SETTINGS
    from product.cloudinit.updates import Updates

    values: dict[str, Any] = {}
    for key, value in root.items():
        if key in NOTED_BELOW and isinstance(value, dict):
            for inner in value.keys() & NOTED_BELOW[key].keys():
                message = f"is passed over: {NOTED_BELOW[key][inner]}"
                notes.append(document.problem((key, inner), message, at_key=True))
            value = {each: v for each, v in value.items() if each not in NOTED_BELOW[key]}
        if key in NOTED:
            notes.append(document.problem((key,), f"is passed over: {NOTED[key]}", at_key=True))
        elif key in CloudConfig.model_fields:
            values[key] = value
        elif key in SETTINGS or (key in Updates.model_fields and key not in REFUSED):
            block = "kubesolo" if key in SETTINGS else "updates"
            problems.append(document.problem((key,), f"belongs below `{block}:`", at_key=True))
        elif key not in REFUSED:
            values[key] = value
        elif value in (None, [], {}, "") or (
            isinstance(value, str) and value.lower() in HARMLESS.get(key, ())
        ):
            notes.append(
                document.problem((key,), "asks for nothing, and is passed over", at_key=True)
            )
        else:
            message = REFUSED[key]
            problems.append(document.problem((key,), message, at_key=True))
    return values


def _read_network_block(
    document: Document, values: dict[str, Any], problems: list[Problem], notes: list[Problem]
) -> None:
    """Put the Network in the place of its block."""
    from product.cloudinit.netplan import read_network

    block = values.pop("network", None)
    if block is None:
        return
    try:
        network = read_network(document, ("network",), block, short=True)
    except InvalidFileError as error:
        problems += error.problems
        return
    notes += network.notes
    values["network"] = network


def _remarks(document: Document, config: CloudConfig) -> list[Problem]:
    """Notes on what was understood, and perhaps not meant."""
    from product.node.names import NAME_MAX

    remarks = []
    for key, value in (("hostname", config.hostname), ("fqdn", config.fqdn)):
        if value and "." in value and key == "hostname":
            message = f"the node is named {value.split('.')[0]}, the first label"
            remarks.append(document.problem((key,), message))
    if config.host and len(config.host) > NAME_MAX:
        key = "hostname" if config.hostname else "fqdn"
        message = f"Kubernetes knows the node by the first {NAME_MAX} letters of its name"
        remarks.append(document.problem((key,), message))
    if config.fqdn and config.hostname:
        remarks.append(document.problem(("fqdn",), "is passed over: hostname counts"))
    if config.final_message and re.search(r"\$(version|timestamp|datasource|uptime|UPTIME)",
                                          config.final_message, re.IGNORECASE):  # fmt: skip
        message = "variables such as $UPTIME are shown as they stand here"
        remarks.append(document.problem(("final_message",), message, at_key=True))
    return remarks


def load_network(data: bytes, name: str = "network-config") -> Network:
    """Raises InvalidFileError with all faults of the file."""
    from product.cloudinit.netplan import read_network
    from product.cloudinit.network import Network

    document = parse(data, name)
    if document.root is None:
        return Network((), (Problem(name, 1, 1, "", "the file sets nothing"),))
    return read_network(document, (), document.root)


def load_meta_data(data: bytes, name: str = "meta-data") -> MetaData:
    """Raises InvalidFileError with all faults of the file."""
    from product.cloudinit.checking import kind
    from product.cloudinit.hosts import host_name, require_text

    document = parse(data, name)
    root = document.root
    if root is None:
        return MetaData()
    if not isinstance(root, dict):
        raise InvalidFileError(
            [document.problem((), f"needs keys such as `instance-id: 7`, found {kind(root)}")]
        )
    problems: list[Problem] = []
    notes: list[Problem] = []
    found: dict[str, str] = {}
    for key, value in root.items():
        folded = key.replace("_", "-")
        if folded not in ("instance-id", "local-hostname"):
            notes.append(document.problem((key,), "is passed over", at_key=True))
            continue
        if value is None:
            continue
        try:
            text = host_name(value) if folded == "local-hostname" else require_text(value).strip()
            if len(text) > _INSTANCE_MAX or not text.isprintable():
                raise ValueError(f"needs one line of at most {_INSTANCE_MAX} letters")
            found[folded] = text
        except ValueError as error:
            problems.append(document.problem((key,), str(error)))
    if problems:
        raise InvalidFileError(problems)
    name_found = found.get("local-hostname")
    return MetaData(
        found.get("instance-id"), name_found.split(".")[0] if name_found else None, in_order(notes)
    )
