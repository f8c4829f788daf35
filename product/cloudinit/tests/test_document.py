"""YAML as it was written, and everything that is refused with its place."""

from __future__ import annotations

import pytest

from product.cloudinit.document import MAX_BYTES, MAX_DEPTH, MAX_NODES, parse
from product.cloudinit.tests.support import problems_of


@pytest.mark.parametrize(
    "text",
    [
        "0755", "1e3", "no", "Yes", "2026-11-01", "22:00-02:00", "01:30", "52:54:00:12:34:56",
        "11:20:13:41:25:45", "00123", "0x10", "1_000", ".inf", "=", "1234", "0o17", "TRUE",
    ],
)  # fmt: skip
def test_a_plain_scalar_stays_as_it_stands(text: str) -> None:
    assert parse(f"key: {text}\n".encode(), "file").root == {"key": text}


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_what_has_no_value(text: str) -> None:
    assert parse(f"key: {text}\n".encode(), "file").root == {"key": None}


@pytest.mark.parametrize("text", ['""', "''"])
def test_quotes_make_an_empty_text(text: str) -> None:
    assert parse(f"key: {text}\n".encode(), "file").root == {"key": ""}


def test_a_byte_order_mark_and_other_line_ends_change_nothing() -> None:
    plain = "a: 1\nb:\n- |\n  x\n  y\n- é\n"
    expected = parse(plain.encode(), "file").root
    for text in ("\ufeff" + plain, plain.replace("\n", "\r\n"), plain.replace("\n", "\r")):
        assert parse(text.encode(), "file").root == expected


def test_a_document_of_version_1_2_and_its_markers() -> None:
    assert parse(b"%YAML 1.2\n---\na: 1\n...\n", "file").root == {"a": "1"}


def test_an_escape_of_json_in_two_halves_is_one_character() -> None:
    assert parse(b'a: "\\ud83d\\ude00"\n', "file").root == {"a": "\U0001f600"}


@pytest.mark.parametrize("data", [b"", b"\n", b"# nothing\n", b"---\n", b"~\n"])
def test_nothing(data: bytes) -> None:
    assert parse(data, "file").root is None


ONE = [
    ("a: &x 1\n", 1, 4, "anchor"),
    ("a: 1\nb: *a\n", 2, 4, "alias"),
    ("a: *\n", 1, 5, "needs quotes"),
    ("a: !!binary aGk=\n", 1, 4, "tag"),
    ("a: !secret x\n", 1, 4, "tag"),
    ("a: 1\n---\nb: 2\n", 2, 1, "second document"),
    ("%TAG ! tag:x,2000:\n---\na: 1\n", 1, 1, "%TAG"),
    ("a: 1\nb: 2\na: 3\n", 3, 1, "twice; the first is in line 1"),
    ("a:\n  b: {c: 1, c: 2}\n", 2, 13, "twice"),
    ("? [a, b]\n: c\n", 1, 3, "a list or mapping"),
    ("? {a: b}\n: c\n", 1, 3, "a list or mapping"),
    (": c\n", 1, 1, "without a name"),
    ("a:\n\tb: 1\n", 2, 1, "tab indents"),
    ("a:\n  \tb: 1\n", 2, 3, "tab"),
    ("a:\t1\n", 1, 3, "tab"),
    ("a: {{ssid}}\n", 1, 5, "unfilled template"),
    ('a: "{{ssid}}"\n', 1, 4, "unfilled template"),
    ("a:\n- 10.20.0.{{octet}}/24\n", 2, 3, "unfilled template"),
    ("a: [10.20.0.{{octet}}/24]\n", 1, 13, "unfilled template"),
    ("a: x\n{% if b %}\n", 2, 2, "unfilled template"),
    ("a: b: c\n", 1, 5, "second ': '"),
    ("a: 1\nb: 'x\nc: 2\n", 2, 4, "has no end"),
    ("a: @x\n", 1, 4, "quotes"),
    ("a: [1, 2\n", 2, 1, "flow sequence"),
    ("a:\n  - b\n - c\n", 3, 2, "indentation"),
    ("a: \x07\n", 1, 4, "U+0007 is not printable"),
    ("a: x\u200by\n", 1, 5, "U+200B is not printable"),
    ("a: \u202egnp\n", 1, 4, "U+202E"),
    ("a: 1\n\x85b: 1\n", 2, 1, "U+0085"),
    ("a:\n\xa0\xa0b: 1\n", 2, 1, "looks like a blank"),
    ("a:\xa0b\n", 1, 3, "looks like a blank"),
    ('a: "\\UFFFFFFFF"\n', 1, 1, "escape"),
    ('a: 1\nb: "\\ud800"\n', 2, 4, "escape"),
    ('a: 1\n"\\udc00": 1\n', 2, 1, "escape"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "said"), ONE)
def test_what_is_no_such_yaml_is_one_error_with_its_place(
    text: str, line: int, column: int, said: str
) -> None:
    (problem,) = problems_of(parse, text.encode())
    assert said in problem.message
    assert (problem.line, problem.column) == (line, column)


BYTES = [
    ("a: 1".encode("utf-16"), "UTF-16"),
    ("a: 1".encode("utf-16-le"), "UTF-16"),
    ("a: 1".encode("utf-16-be"), "UTF-16"),
    (b"\x7fELF\x02\x01\x01\0", "not printable"),
    (b"a\0b", "UTF-16, or binary"),
    (b"\x1f\x8b\x08\x00", "gzip"),
    (b"a: K\xf6ln\n", "byte 0xf6 is not UTF-8"),
    (b"#" * (MAX_BYTES + 1), f"at most {MAX_BYTES}"),
    (b"a: " * 4_000_000, f"at most {MAX_BYTES}"),
]


@pytest.mark.parametrize(("data", "said"), BYTES)
def test_what_is_no_text_is_one_error(data: bytes, said: str) -> None:
    (problem,) = problems_of(parse, data)
    assert said in problem.message
    assert problem.line == 1


def test_depth_and_number_are_bounded() -> None:
    assert not problems_of(parse, b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    for data in (b"[" * 100_000, b"a: " + b"{a: " * 50_000, b"- " * 100_000):
        (problem,) = problems_of(parse, data)
        assert problem.line == 1
    (problem,) = problems_of(parse, b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
    assert (problem.column, problem.message) == (21, "values are nested more than 20 deep")
    (problem,) = problems_of(parse, b"- a\n" * MAX_NODES)
    assert (problem.line, problem.message) == (MAX_NODES, "there are more than 10000 values")


def test_places_are_those_of_values_and_of_keys_without_one() -> None:
    document = parse(b"a:\n  b: [x, {c: y}]\n  d:\n", "file")
    assert document.problem(("a", "b", 1, "c"), "m")[1:4] == (2, 14, "a.b[1].c")
    assert document.problem(("a", "b", 0), "m")[1:4] == (2, 7, "a.b[0]")
    assert document.problem(("a", "b"), "m")[1:3] == (2, 3)
    assert document.problem(("a", "d"), "m")[1:3] == (3, 3)
    assert document.problem(("a", "missing", "deeper"), "m")[1:4] == (1, 1, "a.missing.deeper")


def test_keys_and_messages_are_one_line_of_printable_text() -> None:
    document = parse(b'"a\\n\\e[2J": 1\n', "file")
    assert isinstance(document.root, dict)
    (key,) = document.root
    problem = document.problem((key, "x" * 100), "no\x1b[2J\nway" * 100)
    assert str(problem).isprintable()
    assert problem.key == "a\\n\\x1b[2J." + "x" * 57 + "..."
    assert problem.message.endswith("...")


def test_two_braces_are_text_in_what_is_the_users_own() -> None:
    text = "write_files:\n- content: '{{ .Values.x }}'\nfinal_message: 'ready {{x}}'\n"
    assert not problems_of(parse, text.encode())
