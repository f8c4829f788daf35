"""``write_files``: where files may lie, and what they hold."""

from __future__ import annotations

import base64
import gzip

import pytest

from product.cloudinit.load import load_user_data
from product.cloudinit.plan import plan_user_data
from product.cloudinit.planned import PlannedFile
from product.cloudinit.tests.support import problems_of, user_data
from product.cloudinit.write_files import KEPT, MAX_FILE, OWNED


def written(entry: str) -> tuple[PlannedFile, ...]:
    return plan_user_data(load_user_data(user_data(f"write_files:\n- {entry}\n"))).files


def errors(entry: str) -> list[tuple[str, str]]:
    found = problems_of(load_user_data, user_data(f"write_files:\n- {entry}\n"))
    return [(problem.key, problem.message) for problem in found]


def test_a_file() -> None:
    entry = "{path: /etc/kubesolo//site/./a.conf, content: 'x = 1', permissions: '0640'}"
    assert written(entry) == (PlannedFile("/etc/kubesolo/site/a.conf", b"x = 1", 0o640),)
    assert written("{path: /var/lib/kubesolo/site/a}") == (
        PlannedFile("/var/lib/kubesolo/site/a", b"", 0o644),
    )


@pytest.mark.parametrize("name", ["b64", "base64", "BASE64"])
def test_base64(name: str) -> None:
    data = base64.b64encode(b"\0\xff").decode()
    (file,) = written(f"{{path: /etc/kubesolo/a, encoding: {name}, content: '{data}'}}")
    assert file.content == b"\0\xff"


@pytest.mark.parametrize("name", ["gz+b64", "gz+base64", "gzip+b64", "gzip+base64"])
def test_gzip_below_base64(name: str) -> None:
    data = base64.b64encode(gzip.compress(b"hello")).decode()
    (file,) = written(f"{{path: /etc/kubesolo/a, encoding: {name}, content: '{data}'}}")
    assert file.content == b"hello"


def test_a_bomb_of_gzip_is_one_error_and_not_unpacked() -> None:
    data = base64.b64encode(gzip.compress(b"\0" * (MAX_FILE * 60))).decode()
    ((key, message),) = errors(f"{{path: /etc/kubesolo/a, encoding: gz+b64, content: '{data}'}}")
    assert key == "write_files[0].content"
    assert f"a file may have {MAX_FILE}" in message


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "/etc/kubesolo", "/etc/kubesolo/", "/etc/kubesolo/../passwd",
        "/etc/kubesolo/a/../../x", "/etc/kubesolox/a", "//etc/kubesolo/../x", "etc/kubesolo/a",
        "/var/lib/kubesolo/../x", "/etc/kubesolo/a/", "~/a", "''", '"/etc/kubesolo/a\\nb"',
        '"/etc/kubesolo/a\\0"', f"/etc/kubesolo/{'a' * 256}", f"/etc/kubesolo{'/a' * 600}",
        *OWNED, *(f"{path}/x" for path in OWNED),
        *(f"{path}.tmp" for path in OWNED), *(f"{path}.tmp/x" for path in OWNED),
        *(f"/var/lib/kubesolo/{name}" for name in KEPT),
        *(f"/var/lib/kubesolo/x/../{name}/deep" for name in KEPT),
    ],
)  # fmt: skip
def test_a_path_that_is_not_for_users_is_refused(path: str) -> None:
    ((key, _),) = errors(f"{{path: {path}, content: x}}")
    assert key == "write_files[0].path"


@pytest.mark.parametrize(
    ("entry", "key", "said"),
    [
        ("{content: x}", "path", "is missing"),
        ("{path: /etc/kubesolo/a, content: [x]}", "content", "needs text, found a list"),
        ("{path: /etc/kubesolo/a, encoding: rot13}", "encoding", "is none of b64"),
        ("{path: /etc/kubesolo/a, encoding: gzip}", "encoding", "use gz+b64"),
        ("{path: /etc/kubesolo/a, encoding: b64, content: '?'}", "content", "is not base64"),
        ("{path: /etc/kubesolo/a, encoding: gz+b64, content: aGk=}", "content", "is not gzip"),
        ("{path: /etc/kubesolo/a, encoding: gz+b64, content: H4sI}", "content", "is cut off"),
        ("{path: /etc/kubesolo/a, owner: nobody}", "owner", "all files belong to root:root"),
        ("{path: /etc/kubesolo/a, permissions: rw}", "permissions", "is not a mode"),
        ("{path: /etc/kubesolo/a, permissions: 4755}", "permissions", "at most 0777"),
        ("{path: /etc/kubesolo/a, permissions: 0o9}", "permissions", "is not a mode"),
        ("{path: /etc/kubesolo/a, source: {uri: x}}", "source", "files are not fetched"),
        ("{path: /etc/kubesolo/a, mode: 0644}", "mode", "unknown key"),
        ("{path: /etc/kubesolo/a, contents: x}", "contents", "did you mean content?"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_one_error(entry: str, key: str, said: str) -> None:
    ((found, message),) = errors(entry)
    assert found == f"write_files[0].{key}"
    assert said in message


@pytest.mark.parametrize(("text", "mode"), [("0600", 0o600), ("644", 0o644), ("0o755", 0o755)])
def test_permissions_are_octal_with_or_without_quotes(text: str, mode: int) -> None:
    for value in (text, f"'{text}'"):
        (file,) = written(f"{{path: /etc/kubesolo/a, permissions: {value}}}")
        assert file.mode == mode


def test_entries_that_append() -> None:
    def plan(first: str, second: str) -> tuple[PlannedFile, ...]:
        return written(f"{{path: /etc/kubesolo/a, content: '1'{first}}}\n"
                       f"- {{path: /etc/kubesolo/a, content: '2'{second}}}")  # fmt: skip

    append = ", append: true"
    assert plan("", append) == (PlannedFile("/etc/kubesolo/a", b"12"),)
    assert plan(append, append) == (PlannedFile("/etc/kubesolo/a", b"12", append=True),)


def test_a_file_that_is_written_twice_or_is_a_folder_of_another() -> None:
    a, below = "{path: /etc/kubesolo/a}", "{path: /etc/kubesolo/a/b/c}"
    ((key, message),) = errors(f"{a}\n- {a}")
    assert (key, message) == ("write_files[1].path", "/etc/kubesolo/a is written by entry 0, too")
    for one, other, number in ((a, below, 1), (below, a, 0)):
        ((key, message),) = errors(f"{one}\n- {other}")
        assert key == f"write_files[{number}].path"
        assert "not a folder" in message
    for path in ("/etc/kubesolo/a.tmp", "/etc/kubesolo/a.tmp/b"):
        ((key, message),) = errors(f"{a}\n- {{path: {path}}}")
        assert key == "write_files[1].path"
        assert message == f"{path}: /etc/kubesolo/a of entry 0 is written as /etc/kubesolo/a.tmp"
