"""What happens to a release after it was published, and what is removed in the end."""

from __future__ import annotations

import functools
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from product.manifest import Manifest
from product.release import channels, prune
from product.release.errors import RepositoryError
from product.release.keys import KeyDirectory
from product.release.repository import Repository
from product.release.tests.slotfiles import make_slot
from product.release.tests.test_repository import replaces, tree
from product.release.verify import Report, verify
from product.terms import Terms

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)


class Publisher:
    """A repository and slots by version; a build is another one of the same version."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.keys = KeyDirectory.generate(base / "keys")
        self.repository = Repository.create(base / "repository", self.keys, clock=lambda: NOW)
        self.directory = self.repository.directory

    def slot(self, version: str, architecture: str = "x86_64", build: str = "") -> Path:
        slot = self.base / f"slot-{version}-{architecture}{build}"
        if not slot.exists():
            make_slot(slot, version, architecture)
            if build:
                path = slot / "manifest.json"
                manifest = Manifest.parse(path.read_bytes())
                path.write_bytes(manifest._replace(kubernetes=build).to_bytes())
        return slot

    def publish(
        self,
        version: str,
        *,
        channel: str = "stable",
        architecture: str = "x86_64",
        build: str = "",
        terms: Terms | None = None,
    ) -> str:
        slot = self.slot(version, architecture, build)
        return self.repository.publish(
            slot, channel=channel, notes=f"notes of {version}", terms=terms
        ).digest

    def report(self) -> Report:
        return verify(self.directory, now=NOW)

    def served(self) -> dict[str, str]:
        report = self.report()
        assert report.problems == ()
        return {release.path: release.version for release in report.releases}

    def terms(self) -> Terms:
        [release] = self.report().releases
        return release.terms


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


STABLE, BETA = "stable/x86_64/manifest.json", "beta/x86_64/manifest.json"


# Which may follow which.


def test_an_older_version_and_another_build_need_the_publishers_word(publisher: Publisher) -> None:
    publisher.publish("0.2.0")
    publisher.publish("0.2.0")  # the same to the byte
    before = tree(publisher.directory)
    with pytest.raises(RepositoryError, match=r"0\.1\.9 is older: nodes would refuse") as caught:
        publisher.publish("0.1.9")
    assert "--allow-downgrade" in (caught.value.hint or "")
    with pytest.raises(RepositoryError, match=r"serves another build of 0\.2\.0") as caught:
        publisher.publish("0.2.0", build="2")
    assert "--allow-respin" in (caught.value.hint or "")
    with pytest.raises(RepositoryError, match="is older"):
        publisher.publish("0.2.0-rc.1")
    assert tree(publisher.directory) == before
    publisher.publish("0.2.0", build="2", terms=Terms(allow_respin=True))
    publisher.publish("0.1.9", terms=Terms(allow_downgrade=True))
    assert publisher.terms() == Terms(allow_downgrade=True)
    publisher.publish("0.3.0")
    assert publisher.terms() == Terms()


@pytest.mark.parametrize(
    "version", ["dev", "1.2.202611301230", "1.2", "01.2.3", "1.2.\u0663", "1.2.3-rc_1", "latest"]
)
def test_what_nodes_would_refuse_is_not_published(publisher: Publisher, version: str) -> None:
    slot = make_slot(publisher.base / "slot", version)
    with pytest.raises(RepositoryError, match="version is malformed, and nodes would refuse it"):
        publisher.repository.publish(slot, channel="stable")
    assert publisher.served() == {}


def test_a_least_version_above_the_release_is_refused(publisher: Publisher) -> None:
    with pytest.raises(RepositoryError, match=r"0\.3\.0 is newer than the release 0\.2\.0"):
        publisher.repository.publish(
            publisher.slot("0.2.0"), channel="stable", min_compatible_version="0.3.0"
        )


# Terms.


def test_a_rollout_grows_pauses_and_goes_on(publisher: Publisher) -> None:
    digest = publisher.publish("0.2.0", terms=Terms(percent=5))
    start = NOW + timedelta(days=1)
    assert channels.roll_out(publisher.repository, "stable", percent=25, start=start) == [
        channels.Change(STABLE, "0.2.0", "0.2.0")
    ]
    assert publisher.terms() == Terms(percent=25, start=start)
    channels.pause(publisher.repository, "stable", "it reboots too often")
    assert publisher.terms() == Terms(percent=25, start=start, paused="it reboots too often")
    channels.resume(publisher.repository, "stable")
    assert publisher.terms() == Terms(percent=25, start=start)
    channels.roll_out(publisher.repository, "stable")
    assert publisher.terms() == Terms()
    [release] = publisher.report().releases
    assert release.digest == digest


def test_one_architecture_is_paused_alone(publisher: Publisher) -> None:
    publisher.publish("0.2.0")
    publisher.publish("0.2.0", architecture="aarch64")
    channels.pause(publisher.repository, "stable", "", architecture="aarch64")
    paused = {release.path: release.terms.paused for release in publisher.report().releases}
    assert paused == {STABLE: None, "stable/aarch64/manifest.json": ""}


@pytest.mark.parametrize("channel", ["beta", "stab", "../x"])
def test_a_channel_without_a_release_is_named(publisher: Publisher, channel: str) -> None:
    publisher.publish("0.2.0")
    for change in (
        functools.partial(channels.pause, reason=""),
        channels.resume,
        channels.roll_out,
        channels.withdraw,
        functools.partial(channels.promote, destination="other"),
    ):
        with pytest.raises(RepositoryError, match=r"no release of the channel|malformed"):
            change(publisher.repository, channel)


# Promotion.


def test_a_promoted_release_is_the_same_to_the_byte(publisher: Publisher) -> None:
    publisher.publish("0.1.0")
    digest = publisher.publish("0.2.0", channel="beta", terms=Terms(percent=50))
    changes = channels.promote(
        publisher.repository, "beta", "stable", terms=Terms(percent=10), now=NOW
    )
    assert changes == [channels.Change(STABLE, "0.1.0", "0.2.0")]
    assert publisher.served() == {STABLE: "0.2.0", BETA: "0.2.0"}
    releases = {release.path: release for release in publisher.report().releases}
    assert releases[STABLE].digest == releases[BETA].digest == digest
    assert (releases[STABLE].terms, releases[BETA].terms) == (Terms(percent=10), Terms(percent=50))
    custom = publisher.repository.read().targets.targets[STABLE].custom
    assert (custom["channel"], custom["notes"]) == ("stable", "notes of 0.2.0")


def test_all_architectures_are_promoted_or_none(publisher: Publisher) -> None:
    for architecture in ("x86_64", "aarch64"):
        publisher.publish("0.2.0", channel="beta", architecture=architecture)
    publisher.publish("0.3.0", architecture="x86_64")
    with pytest.raises(RepositoryError, match="is older"):
        channels.promote(publisher.repository, "beta", "stable")
    assert publisher.served()[STABLE] == "0.3.0"
    assert len(publisher.served()) == 3
    channels.promote(publisher.repository, "beta", "stable", architecture="aarch64")
    assert publisher.served()["stable/aarch64/manifest.json"] == "0.2.0"


# Withdrawal.


def test_the_release_before_is_served_again(publisher: Publisher) -> None:
    publisher.publish("0.1.0")
    publisher.publish("0.2.0", terms=Terms(percent=40))
    publisher.publish("0.3.0")
    channels.pause(publisher.repository, "stable", "broken")
    publisher.repository.refresh(roles=["targets"])
    assert channels.withdraw(publisher.repository, "stable") == [
        channels.Change(STABLE, "0.3.0", "0.2.0")
    ]
    assert publisher.terms() == Terms(percent=40)
    # Not the one that was withdrawn before.
    changes = channels.withdraw(publisher.repository, "stable", allow_downgrade=True)
    assert changes == [channels.Change(STABLE, "0.2.0", "0.1.0")]
    assert publisher.terms() == Terms(allow_downgrade=True, allow_respin=True)
    assert channels.withdraw(publisher.repository, "stable") == [
        channels.Change(STABLE, "0.1.0", None)
    ]
    assert publisher.served() == {}


def test_a_withdrawn_release_is_not_promoted_until_it_is_published_again(
    publisher: Publisher,
) -> None:
    publisher.publish("0.2.0", channel="beta")
    channels.promote(publisher.repository, "beta", "stable")
    channels.withdraw(publisher.repository, "stable")
    with pytest.raises(RepositoryError, match="was withdrawn"):
        channels.promote(publisher.repository, "beta", "stable")
    publisher.publish("0.2.0", channel="beta")
    channels.promote(publisher.repository, "beta", "stable")
    assert publisher.served()[STABLE] == "0.2.0"


def test_what_was_withdrawn_from_one_channel_comes_back_in_none(publisher: Publisher) -> None:
    publisher.publish("0.1.0", channel="beta")
    channels.promote(publisher.repository, "beta", "stable")
    publisher.publish("0.2.0", channel="beta")
    channels.promote(publisher.repository, "beta", "stable")
    publisher.publish("0.3.0", channel="beta")
    channels.withdraw(publisher.repository, "stable")
    assert channels.withdraw(publisher.repository, "beta")[0].now == "0.1.0"
    assert publisher.served() == {STABLE: "0.1.0", BETA: "0.1.0"}


def test_a_former_release_whose_files_are_lost_is_not_served(publisher: Publisher) -> None:
    publisher.publish("0.1.0")
    publisher.publish("0.2.0")
    manifest = Manifest.parse((publisher.slot("0.1.0") / "manifest.json").read_bytes())
    (publisher.directory / "artifacts" / manifest.artifacts[0].sha256).unlink()
    assert channels.withdraw(publisher.repository, "stable")[0].now is None


def test_what_somebody_put_there_is_not_served_again(publisher: Publisher) -> None:
    """Nor what a key signed that was stolen and replaced: only what targets of today names."""
    publisher.publish("0.1.0")
    publisher.publish("0.2.0")
    file = publisher.directory / "metadata/2.targets.json"
    document = json.loads(file.read_text())
    document["signed"]["targets"][STABLE]["custom"]["notes"] = "forged"
    file.write_text(json.dumps(document))
    assert channels.withdraw(publisher.repository, "stable")[0].now == "0.1.0"
    assert publisher.repository.read().targets.targets[STABLE].custom["notes"] == "notes of 0.1.0"


def test_a_former_release_outlives_the_keys_that_signed_it(publisher: Publisher) -> None:
    publisher.publish("0.1.0")
    publisher.publish("0.2.0")
    publisher.repository.rotate("targets")
    assert channels.withdraw(publisher.repository, "stable")[0].now == "0.1.0"
    assert publisher.served() == {STABLE: "0.1.0"}


def test_a_withdrawal_cut_anywhere_serves_the_old_or_the_new(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish("0.1.0")
    publisher.publish("0.2.0")
    cuts = 0
    while True:
        copy = publisher.base / f"cut-{cuts}"
        shutil.copytree(publisher.directory, copy)
        opened = Repository.open(copy, publisher.keys, clock=lambda: NOW)
        withdraw = functools.partial(channels.withdraw, opened, "stable")
        cut = replaces(withdraw, monkeypatch, cuts)
        report = verify(copy, now=NOW)
        assert report.problems == ()
        assert [release.version for release in report.releases] == ["0.2.0" if cut else "0.1.0"]
        if not cut:
            break
        cuts += 1
    assert cuts == 3


def test_so_many_releases_of_before_are_signed_for(publisher: Publisher) -> None:
    for number in range(1, 10):
        publisher.publish(f"0.{number}.0")
    back = [channels.withdraw(publisher.repository, "stable")[0].now for _ in range(6)]
    assert back == ["0.8.0", "0.7.0", "0.6.0", "0.5.0", "0.4.0", None]


# Pruning.


def test_nothing_that_is_served_or_was_before_is_lost(publisher: Publisher) -> None:
    for number in range(1, 15):
        publisher.publish(f"0.{number}.0")
        publisher.publish(f"0.{number}.0", channel="beta")
        publisher.repository.refresh()
    publisher.publish("0.14.0", architecture="aarch64")
    before = tree(publisher.directory)
    rehearsed = prune.prune(publisher.directory, dry_run=True)
    assert tree(publisher.directory) == before
    pruned = prune.prune(publisher.directory)
    assert pruned == rehearsed
    after = tree(publisher.directory)
    assert set(before) - set(after) == set(pruned.files)
    assert pruned.size == sum(len(before[name]) for name in pruned.files)
    assert sum(name.startswith("artifacts/") for name in after) == 3 * 4
    assert all(f"metadata/{number}.root.json" in after for number in (1,))
    assert len(after) < len(before) / 3
    served = publisher.served()
    assert served[STABLE] == served[BETA] == "0.14.0"
    # What was before can still be put back, and everything goes on.
    assert channels.withdraw(publisher.repository, "stable", architecture="x86_64")[0].now == (
        "0.13.0"
    )
    publisher.publish("0.15.0")
    assert prune.prune(publisher.directory).files
    assert publisher.served()[STABLE] == "0.15.0"


def test_files_of_other_people_stay(publisher: Publisher) -> None:
    publisher.publish("0.1.0")
    strangers = ["artifacts/README", "metadata/notes.json", "targets/index.html", "robots.txt"]
    for name in strangers:
        (publisher.directory / name).write_text("mine")
    prune.prune(publisher.directory, keep=1)
    assert all((publisher.directory / name).exists() for name in strangers)


def test_a_repository_that_is_not_whole_is_not_pruned(publisher: Publisher) -> None:
    publisher.publish("0.1.0")
    digest = publisher.publish("0.2.0")
    (publisher.directory / f"targets/stable/x86_64/{digest}.manifest.json").write_text("{}")
    before = tree(publisher.directory)
    with pytest.raises(RepositoryError, match="is not what was signed"):
        prune.prune(publisher.directory)
    assert tree(publisher.directory) == before
