"""The pages of what is hardened are what their sources give, and their readers see a difference."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from scenarios.hardening.cis import PAGE, Check, Row, load, render
from scenarios.hardening.listening import DOCUMENT, Socket, compare, documented

# How many rows each group of the benchmark's version 1.12 has.
ROWS = {
    "1.1": 21, "1.2": 30, "1.3": 7, "1.4": 2, "2": 7, "3.1": 3, "3.2": 2, "4.1": 10, "4.2": 14,
    "4.3": 1, "5.1": 13, "5.2": 12, "5.3": 2, "5.4": 2, "5.5": 1, "5.6": 4,
}  # fmt: skip


def test_the_page_is_what_the_list_gives() -> None:
    assert PAGE.read_text() == render()


def test_every_row_of_the_benchmark_is_there_once() -> None:
    benchmark = load()
    assert benchmark.groups.keys() == ROWS.keys()
    wanted = [f"{group}.{number}" for group in ROWS for number in range(1, ROWS[group] + 1)]
    assert [row.number for row in benchmark.row] == wanted


@pytest.mark.parametrize(
    "row",
    [
        {"number": "1.1.1", "title": "t", "result": "pass"},
        {"number": "1.1.1", "title": "t", "result": "deviation"},
        {"number": "1.1.1", "title": "t", "result": "yours", "checks": [{"closed": 1}]},
        {"number": "1.1.1", "title": "t", "result": "fine", "reason": "r"},
    ],
)
def test_a_row_that_claims_without_proof_is_refused(row: object) -> None:
    with pytest.raises(ValidationError):
        Row.model_validate(row)


@pytest.mark.parametrize(
    "check",
    [
        {}, {"files": "/a"}, {"files": "/a", "mode": "600", "owner": "0:0"}, {"flag": "a b"},
        {"flag": "a b", "is": "c", "has": "d"}, {"closed": 1, "is": 1}, {"flagg": "a b"},
        {"closed": 1, "denied": "get pods"},
    ],
)  # fmt: skip
def test_a_check_that_asks_nothing_is_refused(check: object) -> None:
    with pytest.raises(ValidationError):
        Check.model_validate(check)


@pytest.mark.parametrize(
    ("comparison", "holds", "fails"),
    [
        ({"is": "false"}, ["false"], ["true", None]),
        ({"has": "RBAC"}, ["Node,RBAC"], ["Node", None]),
        ({"lacks": "AlwaysAllow"}, ["Node", None], ["Node,AlwaysAllow"]),
        ({"within": ["A", "B"]}, ["A", ["A", "B"]], ["A,C", [], None]),
        ({"least": 30}, ["30", 31], ["29", 4, None]),
        ({"unset": True}, [None], ["", "x"]),
    ],
)
def test_a_comparison_can_fail(
    comparison: dict[str, object], holds: list[str], fails: list[str]
) -> None:
    check = Check.model_validate({"flag": "kube-apiserver x", **comparison})
    assert all(check.accepts(value) for value in holds)
    assert not any(check.accepts(value) for value in fails)


def test_the_table_of_sockets_is_read_and_differences_are_seen() -> None:
    rows = documented(DOCUMENT.read_text())
    assert Socket("tcp", "6443", "every address", "kubenode") in rows
    found = [
        Socket("tcp", "6443", "::", "kubenode"),
        Socket("tcp", "10250", "10.0.2.15", "kubenode"),
        Socket("tcp", "40001", "127.0.0.1", "containerd"),
    ]
    table = [
        Socket("tcp", "6443", "every address", "kubenode"),
        Socket("tcp", "10250", "the node's address", "kubenode"),
        Socket("tcp", "any", "loopback", "containerd"),
    ]
    assert compare(table, found, "10.0.2.15") == ([], [])
    # Another address, another program, one more and one less.
    wider = [found[0], found[1]._replace(address="::"), found[2]]
    assert compare(table, wider, "10.0.2.15") == ([wider[1]], [table[1]])
    other = [found[0]._replace(program="nginx"), *found[1:]]
    assert compare(table, other, "10.0.2.15") == ([other[0]], [table[0]])
    more = Socket("udp", "53", "0.0.0.0", "x")
    assert compare(table, [*found, more], "10.0.2.15") == ([more], [])
    assert compare(table, found[1:], "10.0.2.15") == ([], [table[0]])


def test_a_page_without_the_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no table"):
        documented(re.sub(r"### What listens", "### Ports", DOCUMENT.read_text()))
