"""The truth with many test images: what is kept of each image, and the choice under a limit of MACs, by hand."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "experiments" / "reproduction"))

import many_images
import many_images_text
from many_images import Share, join_answers, join_lines
from many_images_text import SplitSet, many_images_section, split_sets
from truth import packed

RIGHT = {"a": [1, 1, 0, 0, 0, 0, 0, 0, 0, 0], "b": [1] * 8 + [0, 0], "c": [1] * 6 + [0] * 4}
"""Which of ten images the split at each cut has right: two, eight and six."""


def line(cut: str, number: int, *, closed_form: float, cui: float, **fields: object) -> dict[str, object]:
    return {
        "cut": cut,
        "depth": number,
        "budget": "128B",
        "seed": 0,
        "weights_sha256": "w",
        "bytes": 100 * (3 - number),
        "cui": cui,
        "closed_form_select": closed_form,
        "closed_form_divergence": 1 - closed_form,
        "head_mac_share": 0.2 * (number + 1),
        "whole_test": 0.9,
        "whole_select": 0.8,
        "predicted_accuracy": closed_form,
        "predicted_low": closed_form - 0.1,
        "predicted_high": closed_form + 0.1,
    } | fields


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, object]]]:
    answers = {cut: packed(np.array(right, bool)) for cut, right in RIGHT.items()}
    files: dict[str, list[dict[str, object]]] = {
        "many-images": [
            line("c", 2, closed_form=0.4, cui=1.0),
            line("a", 0, closed_form=0.1, cui=3.0),
            line("b", 1, closed_form=0.7, cui=2.0),
        ],
        "many-images-answers": [{"budget": "128B", "seed": 0, "weights_sha256": "w", "images": 10, "right": answers}],
    }
    monkeypatch.setattr(many_images_text, "read", files.__getitem__)
    return files


def table(heads, rows) -> str:
    return "\n".join(" | ".join(row) for row in [heads, *rows])


@pytest.mark.usefixtures("results")
def test_a_set_has_its_cuts_in_the_order_of_computation_with_their_accuracies():
    of_budget = split_sets()["128B", 0]

    assert isinstance(of_budget, SplitSet)
    assert ["a", "b", "c"] == [row["cut"] for row in of_budget.rows]
    assert [0.2, 0.8, 0.6] == of_budget.accuracy.tolist()


@pytest.mark.usefixtures("results")
def test_under_a_limit_each_predictor_chooses_among_the_cuts_that_it_allows():
    lines = many_images_section(table).splitlines()

    # At half of the MACs a and b are allowed: b is the best, and CUI's choice a is 60 points below it.
    assert "128 bytes | 50% | 2 | b (80.0 %) | b (0.0) | b (0.0) | b (0.0) | a (60.0) | b (0.0) | b (0.0)" in lines
    # At three quarters c is allowed as well: depth and size take it, 20 points below b.
    assert "128 bytes | 75% | 3 | b (80.0 %) | b (0.0) | b (0.0) | b (0.0) | a (60.0) | c (20.0) | c (20.0)" in lines


@pytest.mark.usefixtures("results")
def test_predictions_move_from_select_to_test_by_what_the_whole_model_differs():
    text = many_images_section(table)

    # Moved by 0.1 to 0.2, 0.8 and 0.5, against 0.2, 0.8 and 0.6: errors of 0, 0 and 10 points, all inside ± 10.
    assert "with a mean error of 3.3 points" in text
    assert "3 of them (100 %)" in text


def test_each_budget_is_judged_by_the_network_with_the_most_sets_of_it(results: dict[str, list[dict[str, object]]]):
    (answers,) = results["many-images-answers"]
    again = {"weights_sha256": "again", "whole_test": 0.7}
    first, lines = answers | again, results["many-images"][:]
    results["many-images"].extend(row | again for row in lines)
    results["many-images-answers"][:] = [first, answers]
    for budget, seed, fields in (("64B", 0, again), ("128B", 1, {})):
        changed = {**fields, "budget": budget, "seed": seed}
        results["many-images"].extend(row | changed for row in lines)
        results["many-images-answers"].append(answers | changed)

    sets = split_sets()

    assert {("128B", 0): "w", ("128B", 1): "w", ("64B", 0): "again"} == {
        key: of_budget.rows[0]["weights_sha256"] for key, of_budget in sets.items()
    }
    assert "The splits at 64 bytes are of the network after it was trained again" in many_images_section(table)


def test_no_section_is_written_before_a_set_is_whole(results):
    results["many-images-answers"] = []

    assert "" == many_images_section(table)


def test_the_lines_of_all_shares_are_joined_and_their_files_removed(tmp_path: Path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"cut": "a"}\n')
    for number, cut in ((1, "b"), (2, "c")):
        Share(number=number, count=2).path(path).write_text(f'{{"cut": "{cut}"}}\n')

    join_lines(path)

    assert ["a", "b", "c"] == [json.loads(text)["cut"] for text in path.read_text().splitlines()]
    assert [path] == list(tmp_path.iterdir())


def test_the_answers_of_one_set_are_joined_cut_by_cut(tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    row = {"weights_sha256": "w", "budget": "128B", "seed": 1}
    path.write_text(json.dumps(row | {"right": {"a": "00"}}) + "\n" + json.dumps(row | {"seed": 0, "right": {}}) + "\n")
    share = Share(number=2, count=3).path(path)
    share.write_text(json.dumps(row | {"right": {"b": "ff"}}) + "\n")

    join_answers(path)
    assert share.exists()  # a single process leaves alone what shares still write
    join_answers(path, [share])

    rows = [json.loads(text) for text in path.read_text().splitlines()]
    assert [(1, {"a": "00", "b": "ff"}), (0, {})] == [(joined["seed"], joined["right"]) for joined in rows]
    assert [path] == list(tmp_path.iterdir())


def test_a_set_without_answers_for_all_of_its_lines_is_left_out(results: dict[str, list[dict[str, object]]]):
    (answers,) = results["many-images-answers"]
    answers["right"] = {"a": packed(np.array(RIGHT["a"], bool))}

    assert {} == split_sets()


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b"])
def test_a_share_that_is_none_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["many_images.py", "--share", text])

    with pytest.raises(SystemExit) as stopped:
        many_images.main()

    assert 2 == stopped.value.code
    assert text in capsys.readouterr().err
