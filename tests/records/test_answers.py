"""Answers as lines of JSON: nothing is lost on the way, and what is no answer is refused by its line."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isplit.errors import DataError
from isplit.records import Answer, Timings, read_answers

ANSWER = Answer(
    id="a-0",
    index=0,
    image="kätzchen.jpg",
    placement="stage.1",
    source="split",
    label=1,
    class_name="bee",
    probability=0.75,
    logits=(0.5, 1.5),
    deadline_ms=100.0,
    attempts=1,
    payload_bytes=60,
    server_batch=2,
    started_unix_s=1e9,
    timings=Timings(head_ms=1.0, wire_ms=2.0, total_ms=3.5),
)


def test_a_line():
    """An answer is one line, its schema first, its logits left out unless they are wanted."""
    line = ANSWER.to_line()
    assert line.endswith("\n")
    assert 1 == line.count("\n")
    fields = json.loads(line)
    assert ("schema", "isplit.answer/1") == next(iter(fields.items()))
    assert "logits" not in fields
    assert [0.5, 1.5] == json.loads(ANSWER.to_line(logits=True))["logits"]


times = st.none() | st.floats(0, 1e9)


@given(
    answer=st.builds(
        Answer,
        id=st.text(max_size=9),
        image=st.text(max_size=9),
        timings=st.builds(Timings, head_ms=times, wire_ms=times, local_ms=times, total_ms=st.floats(0, 1e9)),
        logits=st.none() | st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32)).map(tuple),
        probability=st.none() | st.floats(0, 1),
        deadline_ms=times,
        started_unix_s=st.floats(0, 1e12),
    )
)
def test_round_trip(answer):
    """What is read is what was written."""
    assert answer == Answer.from_json(answer.to_line(logits=True))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["probability", "deadline_ms", "started_unix_s", "logits", "timings"])
def test_no_number_is_no_number(field, value):
    """NaN and infinity are refused in every field: JSON has no word for them."""
    fields = ANSWER.model_dump() | {field: (value,) if field == "logits" else value}
    if field == "timings":
        fields["timings"] = ANSWER.timings.model_dump() | {"wire_ms": value}
    with pytest.raises(ValueError, match="finite number"):
        Answer.model_validate(fields)


@pytest.mark.parametrize("character", ["\x1b", "\n", "\x7f", "\x9b", "\u2028", "\u202e", "\U000e0001"])
def test_a_line_is_printable(character):
    """A line has no character that a terminal obeys or that some reader takes for its end."""
    answer = ANSWER.model_copy(update={"image": f"a{character}b", "reason": character})
    line = answer.to_line()
    assert line[:-1].isprintable()
    assert 1 == len(line.splitlines())
    assert (f"a{character}b", character) == (json.loads(line)["image"], json.loads(line)["reason"])


def test_read(tmp_path):
    """A file of answers is read a line at a time."""
    path = tmp_path / "answers.jsonl"
    path.write_text(ANSWER.to_line(logits=True) * 3, "utf-8")
    assert [ANSWER] * 3 == list(read_answers(path))


@pytest.mark.parametrize(
    "line", ["", "{}", "[]", "nonsense", '{"schema":"isplit.answer/2"}', '{"schema":"isplit.answer/1"}']
)
def test_damaged_line(tmp_path, line):
    """A line that is no answer is named by its number; those before it are read."""
    path = tmp_path / "answers.jsonl"
    path.write_text(ANSWER.to_line() + line + "\n", "utf-8")
    answers = read_answers(path)
    assert "a-0" == next(answers).id
    with pytest.raises(DataError, match="line 2"):
        next(answers)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_unreadable_file(tmp_path, content):
    """A file that is missing or no text is refused."""
    path = tmp_path / "answers.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"answers\.jsonl"):
        list(read_answers(path))


def test_defaults():
    """An answer that says nothing of the link was not late, and nothing was sent for it."""
    answer = Answer(
        id="a", index=0, image="a", placement="local", source="local", started_unix_s=0, timings=Timings(total_ms=1)
    )
    assert (False, 0) == (answer.late, answer.attempts)


def test_other_alphabets():
    """Printable characters are written as they are, not as escapes."""
    assert "kätzchen.jpg" in ANSWER.to_line()
