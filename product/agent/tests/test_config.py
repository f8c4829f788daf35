"""The configuration file and what lies over it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product.agent.config import Config, check_value, load_config
from product.agent.errors import ConfigError
from product.agent.window import parse_window


def loaded(path: str, flags: Mapping[str, str | int | None] | None = None) -> Config:
    """Where each value comes from is left out."""
    return load_config(path, flags)._replace(from_file=(), from_flags=())


def test_where_a_value_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "update.conf"
    path.write_text("server=http://x/\nchannel=beta\nhealthcheck_url=\n")
    config = load_config(str(path), {"channel": "edge", "tag": None, "auto_rollback_after": 1})
    assert config.from_file == ("server",)
    assert config.from_flags == ("auto_rollback_after", "channel")


def load(tmp_path: Path, text: str, **flags: str | int | None) -> Config:
    path = tmp_path / "update.conf"
    path.write_text(text)
    return loaded(str(path), flags)


def test_a_missing_file_gives_the_defaults(tmp_path: Path) -> None:
    config = loaded(str(tmp_path / "none"))
    assert config == Config()
    assert (config.channel, config.auto_rollback_after, config.kube_system_settle) == (
        "stable",
        3,
        30,
    )
    config.require_usable()


def test_flag_over_file_over_default(tmp_path: Path) -> None:
    text = "# a comment\n\n server = http://a/x=1 \nchannel=beta\nauto_rollback_after=5\n"
    config = load(tmp_path, text, channel="edge", pubkey=None, auto_rollback_after=0)
    assert config == Config(server="http://a/x=1", channel="edge", auto_rollback_after=0)


def test_empty_means_default(tmp_path: Path) -> None:
    config = load(tmp_path, "channel=\nmaintenance_window=\nserver=\nhealthcheck_url=''\n")
    assert config == Config()


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_what_editors_add_is_accepted(tmp_path: Path, mark: str, end: str, quote: str) -> None:
    values = {"server": "http://updates.example/", "channel": "beta", "kube_system_settle": "9"}
    lines = [f"{key}={quote}{value}{quote}{end}" for key, value in values.items()]
    path = tmp_path / "update.conf"
    path.write_bytes((mark + "".join(lines)).encode())
    expected = Config(server="http://updates.example/", channel="beta", kube_system_settle=9)
    assert loaded(str(path)) == expected


def test_unknown_keys_are_ignored_and_named(tmp_path: Path) -> None:
    config = load(tmp_path, "new_key=1\nchannel=beta\nlog.level=\x1b[31m\n" + "k=1\n" * 100)
    assert config.channel == "beta"
    assert config.problems == ()
    assert config.window_unknown is None
    assert "update.conf line 1: 'new_key' is no key of this version" in config.unknown[0]
    assert "line 3: 'log.level'" in config.unknown[1]
    assert len(config.unknown) == 20


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("maintenance_windw=22:00-24:00", "maintenance_window"),
        ("maintainance_window=22:00-24:00", "maintenance_window"),
        ("MaintenanceWindow=22:00-24:00", "maintenance_window"),
        ("maintenance-window=22:00-24:00", "maintenance_window"),
        ("maintenance_window: 22:00-24:00", "maintenance_window"),
        ("maintenance_window 22:00-24:00", "maintenance_window"),
        ("maintenance window=22:00-24:00", "maintenance_window"),
        ("kubesolo_update_maintenance_window=22:00-24:00", "maintenance_window"),
        ("kubesolo.updates.maintenance_window=22:00-24:00", "maintenance_window"),
        ("os.update.maintenance_window=22:00-24:00", "maintenance_window"),
        ("export kubesolo_os_update_maintenance_window=22:00-24:00", "maintenance_window"),
        ("maintenance_window_utc=22:00-24:00", "maintenance_window"),
        ("MaintenanceWindowUTC=22:00-24:00", "maintenance_window"),
        ("maintenance_window_start=22:00", "maintenance_window"),
        ("maint_window=22:00-24:00", "maintenance_window"),
        ("maintenance=22:00-24:00", "maintenance_window"),
        ("update_window=22:00-24:00", "maintenance_window"),
        ("reboot.windows: 22:00-24:00", "maintenance_window"),
        ("window=22:00-24:00", "maintenance_window"),
        ("win_dow=22:00-24:00", "maintenance_window"),
        ("kubesolo_updates_server=http://a/", "server"),
        ("os.update.server=http://a/", "server"),
        ("Server=http://a/", "server"),
        ("SERVER=http://a/", "server"),
        ("sever=http://a/", "server"),
        ("export server=http://a/", "server"),
        ("set server=http://a/", "server"),
        ("--server=http://a/", "server"),
        ("updates.server=http://a/", "server"),
        ("update_server=http://a/", "server"),
        ("server: http://a/?b=c", "server"),
        ("\ufeffserver=http://a/", "server"),
        ("chanel=beta", "channel"),
        ("pub_key=/p", "pubkey"),
        ("pubKey=/p", "pubkey"),
        ("tags=1", "tag"),
    ],
)
def test_a_key_that_is_nearly_known_is_a_mistake(tmp_path: Path, line: str, meant: str) -> None:
    config = load(tmp_path, f"# first\n{line}\n")
    [problem] = config.problems
    assert "update.conf line 2: " in problem
    assert problem.endswith(f"perhaps {meant} is meant")
    assert config.unknown == ()
    assert config._replace(problems=(), window_unknown=None) == Config()
    # A mistyped window must not be an open one.
    assert (config.window_unknown is not None) == (meant == "maintenance_window")


@pytest.mark.parametrize(
    "line", ["server=https://bob:pw5@a/?b", "server https://bob:pw5@a/", "tag=https://bob:pw5@a/"]
)
def test_a_problem_never_shows_the_login_of_a_url(tmp_path: Path, line: str) -> None:
    [problem] = load(tmp_path, f"{line}\n").problems
    assert "pw5" not in problem


@pytest.mark.parametrize("key", ["relay", "notify", "log_level", "reboot_delay", "mirror", "retry"])
def test_other_words_are_no_mistakes(tmp_path: Path, key: str) -> None:
    assert load(tmp_path, f"{key}=1\n").problems == ()


@pytest.mark.parametrize("line", ["=x", "$(reboot)=1", "a b=c", "\x1b[2J=1", "{", "\u00fc=1"])
def test_what_is_no_line_of_it_may_have_been_the_window(tmp_path: Path, line: str) -> None:
    config = load(tmp_path, f"{line}\n")
    assert len(config.problems) == 1
    assert "\x1b" not in config.problems[0]
    assert config.window_unknown == config.problems[0]


@pytest.mark.parametrize("again", ["maintenance_window=1:00-2:00", "channel=beta"])
def test_a_key_that_is_there_twice_is_a_mistake(tmp_path: Path, again: str) -> None:
    key = again.partition("=")[0]
    config = load(tmp_path, f"maintenance_window=2:00-3:00\nchannel=stable\n{again}\n")
    first = 1 if key == "maintenance_window" else 2
    assert config.problems[0].endswith(f"update.conf line 3: {key} is set in line {first} already")
    assert (config.window_unknown is not None) == (key == "maintenance_window")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("auto_rollback_after=many\n", "line 1: auto_rollback_after is 'many'"),
        ("\nkube_system_settle=-1\n", "line 2: kube_system_settle is '-1'"),
        ("kube_system_settle=3601\n", "not a number from 0 to 3600"),
        ("auto_rollback_after=1001\n", "not a number from 0 to 1000"),
        ("healthcheck_deadline=86401\n", "not a number from 0 to 86400"),
        ("kube_system_settle=\n", "kube_system_settle is '', not a whole number"),
        ("server\n", "line 1: 'server' is not key=value"),
        ("server=updates.example\n", "server is 'updates.example', not an address like https"),
        ("server=ftp://updates.example/\n", "not an address like https"),
        ("server=disk:\n", "not an address like https"),
        ("server=disk:/updates\n", "not an address like https"),
        ("server=http:///x\n", "not an address like https"),
        ("server=http://a:99999/\n", "not an address like https"),
        ("server=http://a/?x=1\n", "not an address like https"),
        ("server=http://a/ # ours\n", "not an address like https"),
        ('server="http://a/\n', "not an address like https"),
        ("server=http://a/\x07\n", "which has characters that cannot be printed"),
        ("healthcheck_url=localhost:80\n", "not an http or https URL"),
        ("registry=ftp://a.example/b\n", "not a repository like"),
        ("registry=a.example\n", "not a repository like"),
        ("registry=me:word@a.example/b\n", "not a repository like"),
        ("registry=a.example:99999/b\n", "not a repository like"),
        ("registry=a.example/b:latest\n", "not a repository like"),
        ("tag=a b\n", "not a tag, nor a digest"),
        ("tag=sha256:12\n", "not a tag, nor a digest"),
        ("tag=a b\n", "tag is 'a b', not a tag"),
        ("channel=Stable\n", "channel is 'Stable', not a channel"),
        ("channel=beta # ours\n", "channel is 'beta # ours', not a channel"),
        ("datastore_restore=yes\n", "not one of minor, always, never"),
        ("require_cosign=true\n", "not one of yes, no"),
        ("usb_updates=yes\n", "not one of install, check, no"),
        ("proxy=socks5://a:1\n", "proxy is 'socks5://a:1', not a proxy like http://"),
        ("proxy=a:3128\n", "not a proxy like http://"),
        ("proxy=http://a:3128/b\n", "not a proxy like http://"),
        ("no_proxy=a//b\n", "not hosts, domains and networks"),
        ("rate_limit=fast\n", "rate_limit is 'fast', not bytes a second like 500k or 2M"),
        ("rate_limit=2m\n", "not bytes a second"),
        ("rate_limit=0\n", "at least 1k"),
        ("rate_limit=999\n", "at least 1k"),
        ("rate_limit=1.5M\n", "not bytes a second"),
        ("rate_limit=\u0662M\n", "not bytes a second"),
        ("username=a:b\n", "not a user's name"),
        (f"password={'x' * 1025}\n", "password is a value, longer than 1024 letters"),
        ("bearer_token=a b\n", "bearer_token is a value, which has what no bearer token has"),
    ],
)
def test_bad_values_are_named_and_replaced_by_defaults(
    tmp_path: Path, text: str, problem: str
) -> None:
    config = load(tmp_path, text)
    assert problem in config.problems[0]
    assert config._replace(problems=(), window_unknown=None) == Config()
    with pytest.raises(ConfigError, match=r"update\.conf line"):
        config.require_usable()


def test_a_flag_mends_a_bad_value(tmp_path: Path) -> None:
    assert load(tmp_path, "auto_rollback_after=x\n", auto_rollback_after=2).problems == ()


@pytest.mark.parametrize(
    "value",
    [
        "http://updates.example", "HTTPS://user@updates.example:8443/a/b", "http://[fd00::1]:80/x",
        "http://10.0.2.2:8000", "disk:KSOLOEFI/updates", "disk:RELEASES",
    ],
)  # fmt: skip
def test_addresses_of_servers(tmp_path: Path, value: str) -> None:
    assert load(tmp_path, f"server={value}\n") == Config(server=value)


@pytest.mark.parametrize(
    "value", ["whenever", "22:00", "25:00-26:00", "24:00-01:00", '"22:00-23:00']
)
def test_a_window_that_cannot_be_read_is_a_problem_and_closed(tmp_path: Path, value: str) -> None:
    config = load(tmp_path, f"maintenance_window={value}\n")
    assert f"maintenance_window is {value!r}, not a window" in config.problems[0]
    assert config.window_unknown == config.problems[0]
    # A flag says it better.
    assert load(tmp_path, f"maintenance_window={value}\n", maintenance_window="1:00-2:00") == (
        Config(maintenance_window="1:00-2:00")
    )


def test_a_flag_of_the_window_mends_a_mistyped_key(tmp_path: Path) -> None:
    config = load(tmp_path, "maintenance_windw=1:00-2:00\n", maintenance_window="1:00-2:00")
    assert config == Config(maintenance_window="1:00-2:00")


def test_a_flag_that_cannot_be_used_is_a_problem(tmp_path: Path) -> None:
    assert load(tmp_path, "", server="ftp://a/").problems == (
        "the given server is 'ftp://a/', not an address like https://releases.example.com/kubesolo",
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_one_error(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "update.conf"
    path.write_bytes("server=http://a/\r\nchannel=beta\r\n".encode(encoding))
    config = loaded(str(path))
    assert config.problems == (f"{path} is UTF-16 or binary: save it as UTF-8",)
    assert config.window_unknown == config.problems[0]


@given(st.binary(max_size=300))
def test_whatever_the_file_holds_it_is_loaded(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.mktemp("conf") / "update.conf"
    path.write_bytes(content)
    config = loaded(str(path))
    assert all(text.isprintable() for text in (*config.problems, *config.unknown))


@given(st.text(alphabet="0123456789:- \u0661x", max_size=14))
def test_a_window_that_passes_the_check_is_one(text: str) -> None:
    if check_value("maintenance_window", text) is None:
        start, end = parse_window(text)
        assert 0 <= start < 24 * 60
        assert 0 <= end <= 24 * 60


@pytest.mark.parametrize("content", [b"\xff=1", b"a=b\n" * 20000])
def test_garbage_is_a_problem_not_a_crash(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "update.conf"
    path.write_bytes(content)
    assert len(loaded(str(path)).problems) == 1
    assert len(loaded(str(tmp_path)).problems) == 1


ACCESS = {
    "proxy": "http://me:word@proxy.example:3128",
    "no_proxy": "localhost, .example.org,10.0.0.0/8 [fd00::1]",
    "ca_certificates": "/etc/kubesolo/ca.pem",
    "client_certificate": "/etc/kubesolo/client.pem",
    "client_key": "/etc/kubesolo/client.key",
    "username": "me",
    "password": "pass word",
    "rate_limit": "500k",
    "cosign_key": "/etc/kubesolo/cosign.pub",
    "require_cosign": "yes",
}


def lines(values: Mapping[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in values.items())


def test_how_the_source_is_reached(tmp_path: Path) -> None:
    assert load(tmp_path, lines(ACCESS)) == Config(**ACCESS)  # type: ignore[arg-type]
    assert load(tmp_path, "bearer_token=a.b-c==\n").bearer_token == "a.b-c=="


def test_a_password_in_quotes_keeps_its_blanks(tmp_path: Path) -> None:
    assert load(tmp_path, 'username=me\npassword=" a"b "\n').password == ' a"b '


@pytest.mark.parametrize(
    ("text", "rate"), [("", None), ("1000", 1000), ("500k", 500_000), ("2M", 2_000_000)]
)
def test_a_rate_in_bytes_a_second(tmp_path: Path, text: str, rate: int | None) -> None:
    assert load(tmp_path, f"rate_limit={text}\n").bytes_a_second == rate


@pytest.mark.parametrize("missing", ["username", "password", "client_certificate", "client_key"])
def test_what_needs_another_key_says_so(tmp_path: Path, missing: str) -> None:
    text = lines({key: value for key, value in ACCESS.items() if key != missing})
    [problem] = load(tmp_path, text).problems
    assert problem.endswith(f"needs {missing}, too")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("bearer_token=abc\nusername=a\npassword=b\n", "a request has one login"),
        ("server=https://a:b@c/\nbearer_token=abc\n", "server has a login of its own"),
        ("server=https://a:b@c/\nusername=a\npassword=b\n", "server has a login of its own"),
        ("require_cosign=yes\n", "needs cosign_key, too"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in load(tmp_path, text).problems[0]


@pytest.mark.parametrize(
    "line",
    [
        "password hunter22", "password: hunter22=x", "pasword=hunter22", "Pass: hunter22",
        "bearer token hunter22", "bearer-token: hunter22=", "password=hunter22\x07",
        "bearer_token=hunter22 x", "my pwd is hunter22", "proxy=http://me:hunter22@a/b",
    ],
)  # fmt: skip
def test_no_problem_shows_a_secret(tmp_path: Path, line: str) -> None:
    config = load(tmp_path, f"{line}\n")
    assert "hunter22" not in "".join((*config.problems, *config.unknown))
    assert config.problems


def test_a_login_in_a_flag_is_refused(tmp_path: Path) -> None:
    [problem] = load(tmp_path, "", proxy="http://me:word@a:1").problems
    assert "every process could see" in problem
    assert "word" not in problem


LOGIN = "username=me\npassword=word\nclient_certificate=/c\nclient_key=/k\n"


@pytest.mark.parametrize(
    ("named", "given", "kept"),
    [
        ("server=https://a/b\n", "https://a:443/c", True),
        ("server=https://a/b\n", "HTTPS://A/", True),
        ("server=https://a/b\n", "https://b/", False),
        ("server=https://a/b\n", "http://a/b", False),
        ("server=https://a/b\n", "https://a:444/b", False),
        ("server=https://a/b\n", "https://a@b/", False),
        ("registry=a/b\n", "https://a/", True),
        ("registry=a/b\n", "http://a/", False),
        ("registry=oci://a/b\n", "https://a:443/", True),
        ("registry=http://a/b\n", "https://a/", False),
        ("server=https://a/b\n", "disk:A", False),
        ("", "https://b/", True),
    ],
)
def test_a_login_is_for_the_server_that_the_file_names(
    tmp_path: Path, named: str, given: str, kept: bool
) -> None:
    path = tmp_path / "update.conf"
    path.write_text(f"{named}{LOGIN}")
    login = ("me", "word", "/c", "/k") if kept else (None,) * 4
    config = load_config(str(path), {"server": given})
    found = (config.username, config.password, config.client_certificate, config.client_key)
    assert found == login
    from_pod = load_config(str(path), {"server": given}, server_from_pod=True)
    assert from_pod.server_from_pod
    assert (from_pod.password is not None) == (kept and bool(named))


DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("", None),
        ("server=https://me:word@a/b\n", "https://***@a/b"),
        ("server=disk:KSOLOUPD/os\n", "disk:KSOLOUPD/os"),
        ("registry=a.example:5000/b/c\n", "oci://a.example:5000/b/c:latest"),
        ("registry=http://10.0.2.2:5000/b\ntag=edge\n", "oci://10.0.2.2:5000/b:edge"),
        (f"registry=oci://a.example/b\ntag={DIGEST}\n", f"oci://a.example/b@{DIGEST}"),
        ("registry=https://[::1]:5000/b\n", "oci://[::1]:5000/b:latest"),
    ],
)
def test_the_source_of_releases_is_shown_without_a_login(
    tmp_path: Path, text: str, source: str | None
) -> None:
    config = load(tmp_path, text)
    assert (config.source, config.problems) == (source, ())


@pytest.mark.parametrize(
    ("text", "flags", "problem"),
    [
        ("server=http://a/\nregistry=a/b\n", {}, "registry and server are both there"),
        ("tag=x\n", {}, "tag needs registry, too"),
        ("tag=x\nserver=http://a/\n", {}, "tag needs registry, too"),
        ("", {"server": "http://a/", "registry": "a/b"}, "given registry and server are both"),
        ("registry=a/b\n", {"server": "http://a/", "tag": "x"}, "the given tag needs registry"),
        ("", {"tag": "x"}, "the given tag needs registry"),
        (
            "require_cosign=yes\ncosign_key=/k\nregistry=a/b\n",
            {"server": "http://a/"},
            "only a registry has such signatures",
        ),
    ],
)
def test_releases_come_from_one_source(
    tmp_path: Path, text: str, flags: dict[str, str], problem: str
) -> None:
    [found] = load(tmp_path, text, **flags).problems
    assert problem in found


@pytest.mark.parametrize(
    ("text", "flags", "source"),
    [
        ("server=http://a/\nregistry=a/b\n", {"server": "http://c/"}, "http://c/"),
        ("server=http://a/\nregistry=a/b\n", {"registry": "c/d"}, "oci://c/d:latest"),
        ("server=http://a/\n", {"registry": "c/d", "tag": "x"}, "oci://c/d:x"),
        ("registry=a/b\ntag=x\n", {"server": "http://c/"}, "http://c/"),
        ("registry=a/b\ntag=x\n", {"registry": "c/d"}, "oci://c/d:x"),
        ("registry=a/b\ntag=x\n", {"tag": "y"}, "oci://a/b:y"),
    ],
)
def test_a_flag_names_the_source_in_place_of_the_file(
    tmp_path: Path, text: str, flags: dict[str, str], source: str
) -> None:
    config = load(tmp_path, text, **flags)
    assert (config.source, config.problems) == (source, ())
    assert not config.server or not config.registry
    assert not {"server", "registry"} <= {*config.from_file, *config.from_flags}
