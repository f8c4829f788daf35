"""The manifests: what they ask of a cluster, and what they fit."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest

from product.agent.services.request_directory import ACTIONS
from product.image.oci import image_name
from product.image.oci.images import AGENT_USER
from product.manifests import NAMES, ManifestError, render
from product.manifests.__main__ import main

OVERLAY = Path(__file__).resolve().parents[3] / "images/overlay/usr/lib/kubesolo"


def changed(one: str, two: str) -> list[str]:
    lines = difflib.ndiff(one.splitlines(), two.splitlines())
    return [line for line in lines if line[0] in "+-"]


def test_older_versions_differ_in_the_cronjobs_version_only() -> None:
    for version in ("1.20", "v1.20.2", "1.8"):
        assert changed(render("updates"), render("updates", kubernetes=version)) == [
            "- apiVersion: batch/v1",
            "+ apiVersion: batch/v1beta1",
        ]
    for version in ("1.21", "1.35", "v1.100.0", "1.34.4-k3s1"):
        assert render("updates", kubernetes=version) == render("updates")
    assert render("healthcheck", kubernetes="1.20") == render("healthcheck")


def test_the_server_is_one_value() -> None:
    assert changed(render("updates"), render("updates", server="http://10.0.2.2:8000/r")) == [
        '-   server: ""',
        '+   server: "http://10.0.2.2:8000/r"',
    ]


def test_the_registry_and_its_tag_are_two_values() -> None:
    named = render("updates", registry="http://10.0.2.2:5000/kubesolo-os", tag="edge")
    assert changed(render("updates"), named) == [
        '-   registry: ""',
        '+   registry: "http://10.0.2.2:5000/kubesolo-os"',
        '-   tag: ""',
        '+   tag: "edge"',
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kubernetes": "2.0"}, "no version of Kubernetes"),
        ({"kubernetes": "1"}, "no version of Kubernetes"),
        ({"kubernetes": "latest"}, "no version of Kubernetes"),
        ({"server": "ftp://x"}, "no http or https address"),
        ({"registry": "r.example"}, "no repository like"),
        ({"registry": 'r.example/os"'}, "no repository like"),
        ({"tag": "x"}, "no tag of a registry"),
        ({"registry": "r.example/os", "tag": "a b"}, "no tag of a registry"),
        ({"registry": "r.example/os", "server": "http://x"}, "both there"),
        ({"server": 'http://x"\n  a: b'}, "no http or https address"),
    ],
)
def test_bad_input_is_one_error(
    options: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ManifestError, match=words):
        render("updates", **options)
    assert main([f"--{name}={value}" for name, value in options.items()]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_the_pods_have_no_privilege(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 0
    text = capsys.readouterr().out
    for line in (
        "restartPolicy: Never",
        "automountServiceAccountToken: false",
        "runAsNonRoot: true",
        "privileged: false",
        "allowPrivilegeEscalation: false",
        "readOnlyRootFilesystem: true",
        "capabilities: {drop: [ALL]}",
        "seccompProfile: {type: RuntimeDefault}",
        "imagePullPolicy: Never",
        "hostPath: {path: /var/lib/kubesolo/requests, type: Directory}",
    ):
        assert re.search(rf"^ *{re.escape(line)}$", text, re.M), line
    assert text.count("hostPath") == 1
    assert not re.search(r"hostNetwork|hostPID|hostIPC|kind: .*Role|privileged: true", text)
    assert re.findall(r"image: (\S+)", text) == [image_name("agent")]
    user, _, group = AGENT_USER.partition(":")
    assert (f"runAsUser: {user}" in text, f"runAsGroup: {group}" in text) == (True, True)
    actions = re.findall(r"args: \[(\w+)\]", text)
    assert len(actions) == 1
    assert actions[0] in ACTIONS


def test_jobs_end() -> None:
    text = render("updates")
    for line in (
        "concurrencyPolicy: Forbid",
        "startingDeadlineSeconds: 3600",
        "activeDeadlineSeconds: 3600",
        "backoffLimit: 0",
        "successfulJobsHistoryLimit: 1",
        "failedJobsHistoryLimit: 3",
        'schedule: "17 */6 * * *"',
    ):
        assert line in text


def test_the_hosts_directory_is_the_pods() -> None:
    stage = (OVERLAY / "stages/86-requests").read_text()
    _, _, group = AGENT_USER.partition(":")
    assert f"gid={group}" in stage
    assert "mode=1770" in stage
    assert "requests /var/lib/kubesolo/requests" in stage
