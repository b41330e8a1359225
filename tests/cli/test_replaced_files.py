"""Files of a study that a disk damaged or a stranger replaced: commands end in a sentence, and the others stay."""

import copy
import hashlib
import json
import random
import shutil
from pathlib import Path

import pytest

from tests.replacing import REPLACEMENTS

READ_ONLY = ("report", "plan")
"""Commands that read a study without its model, and write nothing but drawings and plans."""
DRAWN = ("report.html", "curve.svg", "plan.json")
SEED = 12
JSON_VALUES = (
    *(None, {}, [], "", "x" * 10_000, "../outside", "/etc/hostname", "\x1b[2J", "\udc80", True, 0, -1, 0.5, -0.5),
    *(2**31, 2**53, 10**30, 1e-300, 1e99, 1e308, float("nan"), float("inf")),
)


@pytest.fixture(scope="module")
def predicted(finished, isplit, tmp_path_factory):
    """A study with a prediction and a plan. Not to be changed."""
    study = Path(shutil.copytree(finished[0], tmp_path_factory.mktemp("predicted") / "study"))
    result = isplit("predict", study, "--bytes", 60, "--cut", "pool2", "--allow-code", "--quiet")
    assert 0 == result.code, result.both
    result = isplit("plan", study, "--device", "pi5", "--link", "wifi", "--quiet")
    assert 0 == result.code, result.both
    return study


@pytest.fixture
def survives(isplit):
    """Run the commands that read a study; each has to end in 0 or 2 and to leave the other files as they were."""

    def check(study, name, what):
        before = contents(study, without=name)
        for verb in READ_ONLY:
            options = ("--device", "pi5", "--link", "wifi") if verb == "plan" else ()
            result = isplit(verb, study, *options)
            assert result.code in (0, 2), (verb, name, what, result.both)
            assert "Traceback" not in result.both
        assert before == contents(study, without=name), (name, what)
        assert not (study.parent / "outside").exists()

    return check


def contents(study, *, without):
    """Return the hashes of a study's ordinary files, but for one and for what is drawn."""
    return {
        path.relative_to(study).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(study.rglob("*"))
        if path.is_file() and path.name not in DRAWN and path != study / without
    }


def records_of(study):
    return sorted(path.name for path in study.iterdir() if path.suffix == ".json" and not path.name.startswith("."))


@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_replaced_files(predicted, tmp_path, survives, kind):
    """Whatever stands in the place of a file of a study, commands end in a sentence and lose nothing."""
    generator = random.Random(f"{SEED} {kind}")
    names = [*records_of(predicted), "overlays.npz", "report.html"]
    for name in generator.sample(names, 3):
        study = Path(shutil.copytree(predicted, tmp_path / f"study-{name}"))
        REPLACEMENTS[kind](study / name, generator)
        survives(study, name, kind)


def places(value, path=()):
    """Return the path of every field in a document, of at most two entries of a list."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


def replaced(document, path, value):
    """Return a document with another value at a place."""
    changed = copy.deepcopy(document)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return changed


@pytest.mark.parametrize("number", range(4))
def test_odd_values(predicted, tmp_path, survives, number):
    """Whatever stands in a field of a record, commands end in a sentence and lose nothing."""
    generator = random.Random(f"{SEED} {number}")
    study = Path(shutil.copytree(predicted, tmp_path / "study"))
    for name in records_of(study):
        document = json.loads((predicted / name).read_text())
        for path in generator.sample(list(places(document)), 3):
            value = generator.choice(JSON_VALUES)
            (study / name).write_text(json.dumps(replaced(document, path, value)))
            survives(study, name, f"{path} = {value!r}"[:200])
        (study / name).write_text(json.dumps(document))


@pytest.mark.parametrize(
    "text", ["[" * 10_000 + "]" * 10_000, '{"a":' * 10_000 + "1" + "}" * 10_000, '{"schema": 1, "schema": 2}', "null"]
)
def test_odd_documents(predicted, tmp_path, survives, text):
    """Whatever JSON document stands in the place of a record, commands end in a sentence and lose nothing."""
    study = Path(shutil.copytree(predicted, tmp_path / "study"))
    for name in records_of(study):
        content = (study / name).read_bytes()
        (study / name).write_text(text)
        survives(study, name, text[:40])
        (study / name).write_bytes(content)


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "STUDY", "--cuts", "pool1", "--bytes", 70, "--images", 6, "--allow-code"],
        ["fit", "STUDY", "--cut", "pool1", "--bytes", 60, "--epochs", 1, "--allow-code"],
        ["plan", "STUDY", "--link", "4g"],
    ],
)
def test_a_damaged_record_costs_no_work(predicted, isplit, tmp_path, command):
    """What only the report shows is read before the work whose end it would spoil, and every file stays."""
    study = Path(shutil.copytree(predicted, tmp_path / "study"))
    (study / "verification.json").write_text("{")
    before = {**contents(study, without=""), "plan.json": (study / "plan.json").read_bytes()}
    result = isplit(*[study if word == "STUDY" else word for word in command])
    assert 2 == result.code, result.both
    assert "verification.json" in result.err
    assert before == {**contents(study, without=""), "plan.json": (study / "plan.json").read_bytes()}


def test_a_damaged_plan_is_planned_again(predicted, isplit, tmp_path):
    """The record that a command replaces does not stop it, unless it is of another kind."""
    study = Path(shutil.copytree(predicted, tmp_path / "study"))
    assert 0 == isplit("plan", study, "--link", "4g").code
    plan = json.loads((study / "plan.json").read_text())
    plan["answer"] = 3
    (study / "plan.json").write_text(json.dumps(plan))
    result = isplit("plan", study, "--link", "4g")
    assert 0 == result.code, result.err
    assert isinstance(json.loads((study / "plan.json").read_text())["answer"], dict)
