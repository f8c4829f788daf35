"""The picture of a timeline, drawn from recorded and from made up ones."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from harness.report.drawing import PAD, WIDTH
from harness.report.layout import LEFT, Rows, shorten, tick_step
from harness.report.story import Phase, Story, Tone, short_name
from harness.report.timeline import svg
from scenarios.profile import KUBESOLO

TIMELINES = Path(__file__).parents[3] / "fixtures" / "timelines"
_NS = "{http://www.w3.org/2000/svg}"


def recorded(name: str) -> dict[str, Any]:
    """A timeline of a real run, without what no picture needs."""
    timeline: dict[str, Any] = json.loads((TIMELINES / f"{name}.json").read_text())
    return timeline


class Made:
    """A timeline made event by event."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def add(self, time: float, source: str, kind: str, text: str = "", **data: Any) -> Made:
        self.events.append(
            {"time": time, "source": source, "kind": kind, "text": text, "data": data}
        )
        return self

    def line(self, time: float, text: str) -> Made:
        return self.add(time, "console", "line", text)

    def boot(self, time: float, slot: str, counter: int, success: int) -> Made:
        return self.line(time, f"kubesolo: boot slot={slot} counter={counter} success={success}")

    def command(self, begin: float, end: float, text: str, status: int = 0) -> Made:
        identity = f"{len(self.events)}"
        self.add(begin, "channel", "request", text, id=identity)
        self.add(end, "channel", "reply", text, id=identity)
        return self.add(end, "channel", "command", text, exit=status)

    def reset(self, time: float, reason: str = "guest-reset") -> Made:
        return self.add(time, "qmp", "event", "RESET", reason=reason)

    @property
    def document(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "machine": "node",
            "arch": "aarch64",
            "started": "2026-01-31T12:00:00+00:00",
            "words": KUBESOLO.words(),
            "events": self.events,
        }

    @property
    def story(self) -> Story:
        return Story.of(self.document)


def panicking_update() -> Made:
    """Three tries of a release whose init panics, and the return."""
    made = Made().add(0.1, "harness", "start", "QEMU 1")
    time = 0.1
    for counter in (2, 1, 0):
        made.boot(time + 3, "B", counter, 0)
        made.add(time + 6, "console", "failure", "panic", pattern="PANIC", allowed=True)
        time += 10
        made.reset(time)
    made.line(time + 3, "kubesolo: rollback to slot=A").boot(time + 3, "A", 0, 1)
    made.line(time + 9, "kubesolo-update: rolled back version=0.2.1 reason=3 failed boots")
    made.line(time + 9, "kubesolo-update: ready version=0.1.0 slot=A confirmed=1")
    return made.add(time + 10, "harness", "exit", "QEMU 1 ended with status 0", status=0)


def elements(picture: str, kind: str, tag: str = "rect") -> list[ET.Element]:
    """The elements of a picture, without its legend, that have all of these classes."""
    wanted = set(kind.split())
    root = ET.fromstring(picture)
    found = [(one, set(one.get("class", "").split())) for one in root.iter(_NS + tag)]
    return [one for one, classes in found if wanted <= classes and "key" not in classes]


def texts(picture: str) -> list[str]:
    return [one.text or "" for one in ET.fromstring(picture).iter(_NS + "text")]


def span(element: ET.Element) -> tuple[float, float]:
    left = float(element.get("x", "nan"))
    return left, left + float(element.get("width", "nan"))


class TestBoots:
    def test_every_recorded_boot_has_one_bar_in_its_slots_colour(self) -> None:
        picture = svg(recorded("two-updates"))
        assert len(elements(picture, "boot")) == 3
        assert len(elements(picture, "boot slot-none")) == 1  # restored; nobody said which slot
        assert len(elements(picture, "boot slot-b")) == 1
        assert len(elements(picture, "boot slot-a")) == 1

    def test_a_recorded_rollback(self) -> None:
        story = Story.of(recorded("kernel-panic"))
        assert [str(boot) for boot in story.boots] == ["restored", "B2", "B1", "B0", "A0"]
        labels = [mark.label for mark in story.faults]
        assert labels == ["reset", "panic", "reset", "panic", "reset", "panic", "reset"]
        assert [mark.label for mark in story.decisions] == [
            "rollback to A",
            "0.2.1 rolled back",
            "0.1.0 in A ok",
        ]
        refused = [command.name for command in story.commands if command.exit]
        assert refused == ["kubesolo-update apply"]
        assert len(elements(svg(recorded("kernel-panic")), "boot slot-b")) == 3

    def test_bars_are_labelled_with_slot_and_counter(self) -> None:
        words = texts(svg(panicking_update().document))
        for label in ("slot B · counter 2", "slot B · counter 1", "slot B · counter 0"):
            assert any(word.startswith(label) for word in words), label
        made = Made().add(0, "harness", "start").boot(1, "A", 3, 1).line(9, "x")
        assert "slot A · counter 3 · confirmed" in texts(svg(made.document))

    def test_a_bar_runs_from_the_decision_to_the_reset(self) -> None:
        made = Made().add(0, "harness", "start").boot(25, "A", 3, 1).reset(75).line(100, "end")
        (bar,) = elements(svg(made.document), "boot")
        left, right = span(bar)
        scale = (right - left + 1) / 50  # a bar leaves one pixel free at its end
        assert left == pytest.approx(LEFT + 25 * scale, abs=0.2)
        assert right < WIDTH

    def test_bars_never_overlap(self) -> None:
        spans = sorted(span(bar) for bar in elements(svg(panicking_update().document), "boot"))
        assert len(spans) == 4
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))

    def test_the_phases_of_a_recorded_boot(self) -> None:
        boot = Story.of(recorded("two-updates")).boots[1]
        assert [phase for phase, _ in boot.phases] == list(Phase)
        spans = list(boot.spans)
        assert spans[0][1] == boot.begin
        assert spans[-1][2] == boot.end
        kernel = next(begin for phase, begin, _ in spans if phase is Phase.KERNEL)
        assert kernel == boot.decided

    def test_a_boot_that_ends_in_the_firmware_has_phases_but_no_bar(self) -> None:
        made = Made().add(0, "harness", "start").reset(1).boot(3, "A", 3, 1).line(5, "x")
        picture = svg(made.document)
        assert len(elements(picture, "boot")) == 1
        assert len(elements(picture, "phase-firmware")) == 2

    def test_a_second_decision_without_a_reset_is_another_boot(self) -> None:
        made = Made().add(0, "harness", "start").boot(2, "B", 0, 0).boot(4, "A", 0, 1)
        assert [str(boot) for boot in made.line(9, "x").story.decided_boots] == ["B0", "A0"]

    def test_the_slot_of_a_restored_machine_is_known_if_noted(self) -> None:
        made = Made().add(0, "harness", "start").add(1, "harness", "restored", "memory")
        made.add(1, "harness", "note", "kubesolo-update: ready version=0.1.0 slot=B confirmed=1")
        (boot,) = made.line(5, "x").story.boots
        assert (boot.restored, boot.slot, boot.confirmed) == (True, "B", True)


class TestCommands:
    def test_a_bar_each_from_request_to_reply(self) -> None:
        made = Made().add(0, "harness", "start")
        made.command(10, 20, "kubesolo-update check", 10).command(40, 80, "/sbin/apply")
        picture = svg(made.line(100, "x").document)
        bad, good = elements(picture, "command")
        assert "bad" in bad.get("class", "")
        assert "bad" not in good.get("class", "")
        assert span(good)[1] - span(good)[0] == pytest.approx(
            4 * (span(bad)[1] - span(bad)[0]), rel=0.02
        )
        assert "kubesolo-update check" in texts(picture)
        assert "apply" in texts(picture)

    def test_a_command_that_the_machine_took_along_is_shown_as_lost(self) -> None:
        made = Made().add(0, "harness", "start").add(1, "channel", "request", "df", id="1")
        made.add(5, "harness", "exit", "", status=0).line(9, "x")
        (command,) = made.story.commands
        assert (command.answered, command.end) == (False, 5)
        picture = svg(made.document)
        assert len(elements(picture, "command lost")) == 1
        assert "no reply" in texts(picture)

    def test_statuses_belong_to_their_own_run_of_a_command(self) -> None:
        made = Made().command(1, 2, "x", 1).command(3, 4, "x", 0).command(5, 6, "x", 2)
        assert [command.exit for command in made.story.commands] == [1, 0, 2]

    def test_a_command_on_the_host_ends_when_it_is_written_down(self) -> None:
        made = Made().add(0, "harness", "start")
        made.add(5, "harness", "command", "kubectl get nodes", exit=1, seconds=1.5)
        (command,) = made.story.commands
        assert (command.begin, command.end, command.exit) == (3.5, 5, 1)
        assert command.answered

    def test_a_status_is_not_given_to_a_command_still_running(self) -> None:
        made = Made().add(1, "channel", "request", "x", id="first")
        made.add(2, "channel", "request", "x", id="second")
        made.add(3, "channel", "reply", "x", id="first").add(3, "channel", "command", "x", exit=7)
        assert [command.exit for command in made.story.commands] == [7, None]

    @pytest.mark.parametrize(
        ("command", "name"),
        [
            ("/sbin/reboot", "reboot"),
            ("/bin/sh -c 'cat > \"$1\"' sh /etc/x.part", "cat > /etc/x.part"),
            ("/bin/sh -c '\n  mkdir -p a\n  ls' sh", "mkdir -p a ls"),
            ("kubesolo-update status --json", "kubesolo-update status --json"),
            ("an 'unclosed quote", "an 'unclosed quote"),
            ("", ""),
        ],
    )
    def test_short_names(self, command: str, name: str) -> None:
        assert short_name(command) == name


class TestMarks:
    def test_a_power_cut_is_a_fault_and_no_failure_of_qemu(self) -> None:
        made = Made().add(0, "harness", "start").add(5, "harness", "exit", "", status=-9)
        made.add(5.01, "fault", "fired", "power cut").add(6, "harness", "start").line(9, "x")
        assert [(mark.label, mark.tone) for mark in made.story.faults] == [
            ("power cut", Tone.FAULT)
        ]
        assert len(elements(svg(made.document), "mark fault", "path")) == 1

    @pytest.mark.parametrize("status", [-11, 1])
    def test_qemus_own_end_is_a_failure(self, status: int) -> None:
        made = Made().add(0, "harness", "start").add(5, "harness", "exit", "", status=status)
        assert [mark.label for mark in made.story.faults] == ["QEMU ended"]

    def test_qemu_killed_by_somebody_else_is_a_failure(self) -> None:
        made = Made().add(0, "harness", "start").add(5, "harness", "exit", "", status=-9)
        made.add(6, "harness", "start")
        assert [mark.tone for mark in made.story.faults] == [Tone.FAILURE]

    def test_resets_say_who_did_it(self) -> None:
        made = Made().add(0, "harness", "start").reset(1).reset(2, "host-qmp-system-reset")
        made.add(5, "qmp", "event", "WATCHDOG", action="reset").reset(5.1)
        details = [mark.detail for mark in made.story.faults]
        assert details == [
            "reset by the guest",
            "reset from outside (host-qmp-system-reset)",
            "watchdog: reset",
            "reset by the watchdog",
        ]

    def test_expected_and_unexpected_failures_differ(self) -> None:
        made = panicking_update()
        made.add(41, "console", "failure", "Oops: 0", pattern="OOPS", allowed=False)
        tones = {mark.label: mark.tone for mark in made.story.faults if "reset" not in mark.label}
        assert tones == {"panic": Tone.WARNING, "oops": Tone.FAILURE}

    def test_a_failure_that_did_not_happen_is_a_warning_with_the_reason(self) -> None:
        made = Made().add(0, "harness", "start")
        stall = {"pattern": "RCU_STALL", "allowed": False, "disbelieved": "the clock leapt"}
        (mark,) = made.add(3, "console", "failure", "a stall", **stall).story.faults
        assert (mark.tone, mark.label) == (Tone.WARNING, "rcu stall")
        assert mark.detail == "a stall (not believed: the clock leapt)"

    def test_a_panic_of_several_lines_is_one_mark(self) -> None:
        made = Made().add(0, "harness", "start")
        for time in (3, 3.1, 4.9, 30):
            made.add(time, "console", "failure", "panic", pattern="PANIC", allowed=True)
        assert [mark.time for mark in made.story.faults] == [3, 30]

    def test_the_deciding_words_of_boot_loader_and_agent(self) -> None:
        labels = [mark.label for mark in panicking_update().story.decisions]
        assert labels == ["rollback to A", "0.2.1 rolled back", "0.1.0 in A ok"]


class TestSlots:
    def test_each_slots_phases_and_gates_lie_in_its_own_lane(self) -> None:
        made = Made().add(0, "harness", "start").boot(2, "A", 3, 1).reset(10)
        made.boot(13, "B", 2, 0)
        made.line(18, "kubesolo-update: ready version=0.2.0 slot=B confirmed=1").line(20, "x")
        picture = svg(made.document)
        heights = {
            (one.text or ""): float(one.get("y", "nan")) - 2 * PAD  # its top, from its base line
            for one in ET.fromstring(picture).iter(_NS + "text")
            if one.get("class") == "lane-name"
        }
        assert list(heights) == ["boots", "slot A", "slot B", "commands"]
        firmware = [float(one.get("y", "nan")) for one in elements(picture, "phase-firmware")]
        assert heights["boots"] < firmware[0] < heights["slot B"] < firmware[1]
        assert firmware[1] < heights["commands"]
        (gate,) = (
            one for one in ET.fromstring(picture).iter(_NS + "text") if one.text == "0.2.0 in B ok"
        )
        assert heights["slot B"] < float(gate.get("y", "nan")) < heights["commands"]

    def test_a_fault_lies_with_the_slot_that_suffered_it(self) -> None:
        made = Made().add(0, "harness", "start").boot(2, "A", 3, 1).reset(10)
        made.boot(13, "B", 2, 0).add(15, "fault", "fired", "slow disk")
        root = ET.fromstring(svg(made.document))
        # The legend, which comes last, has some of these words too.
        every = reversed(list(root.iter(_NS + "text")))
        tops = {one.text: float(one.get("y", "nan")) for one in every}
        assert tops["slot A"] < tops["reset"] < tops["slot B"] < tops["slow disk"]
        assert tops["slow disk"] < tops["commands"]

    def test_a_fault_while_nothing_runs_has_a_lane_of_its_own(self) -> None:
        made = Made().add(0, "harness", "start").boot(2, "A", 3, 1)
        made.add(9, "harness", "exit").add(12, "fault", "fired", "torn write")
        root = ET.fromstring(svg(made.document))
        names = [one.text for one in root.iter(_NS + "text") if one.get("class") == "lane-name"]
        assert names == ["boots", "slot A", "faults", "commands"]

    def test_a_system_without_slots_has_one_lane(self) -> None:
        made = Made().add(0, "harness", "start").line(1, "[    0.000000] Linux version 6.12.1")
        assert "no slot" in texts(svg({**made.document, "words": None}))

    def test_seconds_from_each_slot(self) -> None:
        made = Made().add(0, "harness", "start").boot(2, "A", 3, 1).reset(10)
        made.boot(13, "B", 2, 0).reset(20).boot(22, "A", 3, 1).line(25, "x")
        assert made.story.slot_seconds() == {"A": 11.0, "B": 7.0}


class TestSteps:
    def test_steps_have_their_depth_and_those_that_did_not_end_are_seen(self) -> None:
        made = Made().add(0, "harness", "start")
        made.add(1, "harness", "step", "update", depth=0, phase="begin")
        made.add(2, "harness", "step", "reboot", depth=1, phase="begin")
        made.add(5, "harness", "step", "reboot", depth=1, phase="end", seconds=3)
        made.line(9, "x")
        assert [(s.text, s.begin, s.end, s.depth, s.ended) for s in made.story.steps] == [
            ("update", 1, 9, 0, False),
            ("reboot", 2, 5, 1, True),
        ]
        picture = svg(made.document)
        assert {"steps", "update", "reboot"} <= set(texts(picture))
        assert len(elements(picture, "step open")) == 1

    @pytest.mark.parametrize(
        ("label", "kind"),
        [
            ("power cut", "power cut"),
            ("network link down", "network link"),
            ("the disk does not answer", "disk"),
            ("disk-errors: EIO of write 3: 1 writes failed", "disk errors"),
            ("clock set to 2001-02-03 04:05:06", "clock set"),
            ("/artifacts/b649: cut off", "web server"),
            ("byte 1048576 of /artifacts/0138: flipped", "web server"),
        ],
    )
    def test_the_kinds_of_faults(self, label: str, kind: str) -> None:
        made = Made().add(0, "harness", "start").add(1, "fault", "fired", label)
        assert made.story.fault_kinds == [kind]


class TestDeciding:
    def test_the_wait_that_gave_up(self) -> None:
        failure = (
            "waited 62.7 s for boot 1 of 1 in step 'wait for 1 boots': nothing within 63 s\n"
            "last 20 console lines:\n  x"
        )
        mark = Story.of(recorded("menu-timeout")).deciding(failure)
        assert mark is not None
        assert (mark.time, mark.label) == (164.397, "gave up after 62.7 s")
        picture = svg(recorded("menu-timeout"), outcome="failed", failure=failure)
        assert "gave up after 62.7 s" in texts(picture)
        assert len(elements(picture, "guide deciding", "line")) == 1
        assert any(
            word.startswith("decided by: waited 62.7 s for boot 1") for word in texts(picture)
        )
        assert not any("last 20 console lines" in word for word in texts(picture))

    def test_the_first_failure_that_nobody_expected(self) -> None:
        made = panicking_update()
        stall = {"pattern": "RCU_STALL", "allowed": False, "disbelieved": "the clock leapt"}
        made.add(39, "console", "failure", "a stall", **stall)
        made.add(41, "console", "failure", "Oops: 0", pattern="OOPS", allowed=False)
        made.add(44, "console", "failure", "BUG", pattern="KERNEL_BUG", allowed=False)
        mark = made.story.deciding("oops: Oops: 0")
        assert mark is not None
        assert mark.detail == "Oops: 0"

    def test_nothing_decided_what_passed(self) -> None:
        assert panicking_update().story.deciding("") is None
        picture = svg(panicking_update().document, outcome="passed")
        assert not elements(picture, "guide deciding", "line")


class TestPicture:
    def test_title_architecture_and_outcome(self) -> None:
        picture = svg(recorded("two-updates"), title="the name", outcome="passed")
        assert {"the name", "passed"} <= set(texts(picture))
        assert any("x86_64" in word and "restored → B2 → A2" in word for word in texts(picture))

    def test_lanes_and_legend(self) -> None:
        words = texts(svg(recorded("two-updates")))
        assert {"boots", "slot A", "slot B", "commands", "faults", "steps"} <= set(words)
        parts = ["firmware", "loader", "kernel", "early boot", "services", "gates"]
        assert [word for word in words if word in parts][: len(parts)] == parts
        assert {"slot A", "slot B", "firmware", "kernel", "services and agent"} <= set(words)

    def test_names_lie_together_over_the_lanes(self) -> None:
        root = ET.fromstring(svg(recorded("two-updates")))
        (names,) = (one for one in root if one.get("class") == "names")
        ground, *words = names
        assert (ground.tag, ground.get("x")) == (_NS + "rect", "0")
        everywhere = [one for one in root.iter() if one.get("class") in ("lane-name", "row-name")]
        assert words == everywhere
        before = list(root)[: list(root).index(names)]
        assert [one for one in root if one.get("class") == "lane"] == [
            one for one in before if one.get("class") == "lane"
        ]

    def test_equal_input_gives_equal_bytes(self) -> None:
        assert svg(recorded("two-updates")) == svg(recorded("two-updates"))

    def test_nothing_is_loaded_from_elsewhere(self) -> None:
        picture = svg(recorded("two-updates")).replace("http://www.w3.org/2000/svg", "")
        for word in ("http", "url(", "@import", "href", "<script", "<image"):
            assert word not in picture, word

    @pytest.mark.parametrize(
        "hostile",
        [
            "</text><script>alert(1)</script>",
            '" onload="alert(1)',
            "]]> &amp; <![CDATA[",
            "\x1b[31mred\x1b[0m \x00\x08\ufffe\ud800 end",
            "x" * 5000,
        ],
    )
    def test_hostile_text_stays_text(self, hostile: str) -> None:
        made = Made().add(0, "harness", "start").boot(2, "A", 3, 1).line(3, hostile)
        made.add(4, "fault", "fired", hostile).command(5, 6, hostile)
        made.add(7, "console", "failure", hostile, pattern=hostile, allowed=False)
        made.line(8, f"kubesolo-update: ready version={hostile} slot=A confirmed=1")
        document = {**made.document, "machine": hostile, "arch": hostile}
        picture = svg(document, title=hostile, outcome=hostile, failure=hostile)
        root = ET.fromstring(picture)
        known = {"svg", "style", "rect", "text", "title", "path", "line", "g"}
        assert {one.tag.removeprefix(_NS) for one in root.iter()} <= known
        assert not any(name.startswith("on") for one in root.iter() for name in one.attrib)
        picture.encode()

    @pytest.mark.parametrize("document", [{}, {"events": []}, {"events": [{}, "x", None]}])
    def test_a_timeline_without_events_is_an_empty_picture(self, document: Any) -> None:
        assert ET.fromstring(svg(document)).get("width") == str(WIDTH)

    def test_everything_stays_within_the_picture(self) -> None:
        for picture in (svg(recorded("two-updates")), svg(panicking_update().document)):
            root = ET.fromstring(picture)
            height = float(root.get("height", "0"))
            for one in root.iter(_NS + "rect"):
                left, right = span(one)
                bottom = float(one.get("y", "nan")) + float(one.get("height", "nan"))
                assert left >= 0
                assert right <= WIDTH
                assert bottom <= height

    def test_the_embedded_picture_leaves_the_style_to_the_page(self) -> None:
        assert "<style>" in svg(recorded("two-updates"))
        assert "<style>" not in svg(recorded("two-updates"), embedded=True)


class TestLayout:
    @pytest.mark.parametrize(
        ("seconds", "step"), [(0.9, 0.1), (3, 0.5), (12, 1), (61, 10), (113, 10), (600, 50)]
    )
    def test_ticks_are_round_and_not_too_many(self, seconds: float, step: float) -> None:
        assert tick_step(seconds) == pytest.approx(step)

    def test_labels_never_lie_over_one_another(self) -> None:
        rows = Rows(WIDTH)
        for number in range(60):
            rows.place(LEFT + number * 15, LEFT + number * 15 + 8, "a rather long label")
        assert rows.count > 1
        for taken in rows.taken:
            taken.sort()
            assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(taken))

    def test_a_label_at_the_right_edge_goes_before_its_bar(self) -> None:
        placed = Rows(WIDTH).place(WIDTH - 30, WIDTH - 22, "label")
        assert placed.end_anchored
        assert placed.text_at < WIDTH - 30

    def test_a_shortened_text_says_so(self) -> None:
        assert shorten("abcdefgh\nrest", 5) == "abcd…"
        assert shorten("abcde\nrest", 5) == "abcde"


def test_without_words_of_its_own_a_system_has_the_phases_of_any_linux() -> None:
    made = Made().add(0, "harness", "start").line(1, "[    0.000000] Linux version 6.12.1")
    made.line(5, "my system is ready")
    document = {**made.document, "words": {"ready": "is ready$", "phases": 7, "moments": [["["]]}}
    [boot] = Story.of(document).boots
    assert boot.phases == [(Phase.FIRMWARE, 0), (Phase.KERNEL, 1), (Phase.UP, 5)]
    [boot] = Story.of({**made.document, "words": None}).boots
    assert boot.phases == [(Phase.FIRMWARE, 0), (Phase.KERNEL, 1)]
