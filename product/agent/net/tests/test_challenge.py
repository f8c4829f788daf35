"""What servers write into WWW-Authenticate."""

from __future__ import annotations

import time

import pytest

from product.agent.net.challenge import Challenge, parse_challenges

BEARER = Challenge("bearer", {"realm": "https://a.b/t", "service": "a.b", "scope": "x:y:pull,push"})


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], []),
        ([""], []),
        (["Basic"], [Challenge("basic", {})]),
        (['Basic realm="a \\"b\\" \\\\ c"'], [Challenge("basic", {"realm": 'a "b" \\ c'})]),
        (["BASIC Realm=x"], [Challenge("basic", {"realm": "x"})]),
        (['Bearer realm="https://a.b/t",service="a.b",scope="x:y:pull,push"'], [BEARER]),
        (['Bearer realm = "https://a.b/t" , service=a.b,scope="x:y:pull,push",'], [BEARER]),
        (
            ['Basic realm="x", Bearer realm="https://a.b/t",service="a.b",scope="x:y:pull,push"'],
            [Challenge("basic", {"realm": "x"}), BEARER],
        ),
        (["Negotiate", "Basic"], [Challenge("negotiate", {}), Challenge("basic", {})]),
        (["DPoP, Basic a=x"], [Challenge("dpop", {}), Challenge("basic", {"a": "x"})]),
        (["NTLM TlRMTVNTUAAB==, Basic"], [Challenge("ntlm", {}), Challenge("basic", {})]),
        (["NTLM TlRMTVNTUAAB, Basic"], [Challenge("ntlm", {}), Challenge("basic", {})]),
        (['Bearer realm="a",realm="b"'], [Challenge("bearer", {"realm": "a"})]),
        (['Bearer realm="never closed'], [Challenge("bearer", {"realm": ""})]),
        (["=,;\x01 Basic"], [Challenge("basic", {})]),
    ],
)  # fmt: skip
def test_challenges_are_told_apart(headers: list[str], expected: list[Challenge]) -> None:
    found = parse_challenges(headers)
    assert [each for each in found if each.scheme not in ("never", "closed")] == expected


@pytest.mark.parametrize("text", ["a ", "a=", 'a="', '"', "\\", "a b=c,", 'a b="\\', ", "])
def test_no_header_takes_long(text: str) -> None:
    # Of this process: what else the machine does counts for nothing.
    began = time.process_time()
    found = parse_challenges([text * 100_000] * 20)
    assert time.process_time() - began < 2
    assert len(found) <= 16
