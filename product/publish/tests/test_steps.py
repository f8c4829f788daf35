"""Steps are taken once, and again where what they left does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from product.publish.errors import PublishError, StepError
from product.publish.steps import Output, Step, take_all


class Taken:
    """Steps that write a file each, and what was taken."""

    def __init__(self, folder: Path) -> None:
        self.output = Output(folder)
        self.names: list[str] = []
        self.inputs = {"one": "1", "two": "1"}
        self.broken = False
        folder.mkdir()

    def steps(self) -> list[Step]:
        return [self._step("one"), self._step("two")]

    def run(self, only: str | None = None) -> list[str]:
        self.names = []
        take_all(self.output, self.steps(), lambda step: f"again {step.name}", only)
        return self.names

    def _step(self, name: str) -> Step:
        def run(work: Path) -> Mapping[str, object]:
            self.names.append(name)
            assert list(work.iterdir()) == []
            (work / f"{name}.txt").write_text(name)
            if self.broken:
                raise PublishError("it broke", hint="mend it")
            return {"fact": name}

        return Step(name, lambda: self.inputs[name], run)


@pytest.fixture
def taken(tmp_path: Path) -> Taken:
    return Taken(tmp_path / "out")


def test_once(taken: Taken) -> None:
    assert taken.run() == ["one", "two"]
    assert taken.run() == []
    assert taken.output.records(taken.steps())[1].facts == {"fact": "two"}


def test_again_where_something_is_different(taken: Taken) -> None:
    taken.run()
    folder = taken.output.folder
    (folder / "one.txt").write_text("other")
    assert taken.run() == ["one"]
    (folder / "two.txt").unlink()
    assert taken.run() == ["two"]
    taken.inputs["two"] = "2"
    assert taken.run() == ["two"]
    (folder / ".steps/one.json").write_text("{}")
    assert taken.run() == ["one"]
    assert taken.run(only="two") == ["two"]


def test_a_failure_names_the_step_and_leaves_no_half(taken: Taken) -> None:
    taken.broken = True
    with pytest.raises(StepError) as caught:
        taken.run()
    assert caught.value.message == "step one: it broke"
    assert caught.value.hint == "mend it; this step alone again: again one"
    assert not (taken.output.folder / "one.txt").exists()
    taken.broken = False
    assert taken.run() == ["one", "two"]
    with pytest.raises(PublishError, match="no step 'three'"):
        taken.run(only="three")


def test_one_run_at_a_time(taken: Taken) -> None:
    with (
        taken.output.alone(),
        pytest.raises(PublishError, match="another run"),
        Output(taken.output.folder).alone(),
    ):
        pass
