"""isplit analyze with options: classes, images, methods, precision and cuts."""

import json

import numpy as np
import pytest

from tests.cli.tiny_study import MODULES, read


@pytest.fixture
def analyzed(isplit, tiny_args, tmp_path, without_report):
    """Analyze with further options; returns what was printed and a reader of the study's records."""

    def analyze(*options):
        result = isplit("analyze", *tiny_args, "-o", tmp_path / "s", *options)
        assert 0 == result.code, result.err
        return result, lambda name: read(tmp_path / "s", f"{name}.json")

    return analyze


def test_classes_once_restricts(analyzed):
    """One --classes makes the study about those classes, accuracy and chance level included."""
    result, record = analyzed("--classes", "bars,dots")
    subsets = record("curve")["subsets"]
    points = subsets[0]["points"] if subsets else record("curve")["points"]
    assert ["bars", "dots"] == sorted(points[0]["per_class"])
    assert ["bars", "dots"] == sorted(record("study")["groups"][0]["classes"])
    assert 16 == record("study")["base_accuracy"]["images"]
    assert 0.5 == record("study")["chance_accuracy"]
    assert "of 16 test images" in result.err


def test_classes_repeated_are_ranked_and_compared(analyzed):
    """Every repeated --classes has a ranking of its own, and it is said where they disagree."""
    result, record = analyzed("--classes", "bars,dots", "--classes", "dots,rows")
    ranking = record("candidates")
    assert [["bars", "dots"], ["dots", "rows"]] == [subset["classes"] for subset in ranking["subsets"]]
    assert all(subset["candidates"] for subset in ranking["subsets"])
    assert ranking["disagreement"]
    assert ranking["disagreement"] in result.out.replace("\n", " ") + result.out
    assert [["bars", "dots"], ["dots", "rows"]] == [subset["classes"] for subset in record("curve")["subsets"]]


def test_subset_curve_is_that_of_its_classes(analyzed, finished):
    """The correct class's gradient is the same in a subset, so its curve is the mean of its classes' curves."""
    _, record = analyzed("--classes", "bars,dots", "--classes", "dots,rows")
    whole = {point["cut"]: point["per_class"] for point in read(finished[0], "curve.json")["points"]}
    for point in record("curve")["subsets"][0]["points"]:
        classes = whole[point["cut"]]
        assert point["cui"] == pytest.approx((classes["bars"] + classes["dots"]) / 2, rel=1e-6)


def test_classes_from_a_file(analyzed, tmp_path):
    """A JSON file of named groups gives one ranking per group, by its name."""
    (tmp_path / "groups.json").write_text(json.dumps({"lines": ["bars", "rows"], "mixed": ["dots", "rows"]}))
    _, record = analyzed("--classes", str(tmp_path / "groups.json"))
    assert ["lines", "mixed"] == [subset["name"] for subset in record("candidates")["subsets"]]


def test_merged_classes(analyzed):
    """x=a+b counts two classes as one of that name."""
    _, record = analyzed("--classes", "dots,stripes=bars+rows")
    curve = record("curve")
    points = curve["subsets"][0]["points"] if curve["subsets"] else curve["points"]
    assert ["dots", "stripes"] == sorted(points[0]["per_class"])
    group = record("study")["groups"][0]
    assert {"dots": ["dots"], "stripes": ["bars", "rows"]} == dict(zip(group["classes"], group["members"], strict=True))


def test_images_are_balanced(analyzed):
    """--images N takes N images, as many of each class."""
    _, record = analyzed("--images", 12)
    assert {"bars": 4, "dots": 4, "rows": 4} == record("curve")["images_per_class"]
    assert 12 == record("curve")["images"]


def test_all_images(analyzed):
    """--images all takes the whole fit part."""
    _, record = analyzed("--images", "all")
    assert 33 == record("curve")["images"]


def test_fewer_images_than_classes(isplit, tiny_args, tmp_path):
    """With fewer images than classes the curve is drawn all the same, and a warning says which classes count."""
    result = isplit("analyze", *tiny_args, "-o", tmp_path / "s", "--images", 1)

    assert 0 == result.code
    assert "warning: the curve is taken from fewer images (1) than there are classes (3)" in result.err


def test_tolerance_stops_early(analyzed):
    """--tolerance may stop before all images are seen; what it did is in the record, in words."""
    _, record = analyzed("--tolerance", 0.9, "--batch-size", 3)
    assert record("curve")["images"] < 33
    assert "0.9" in record("curve")["stopped"]


@pytest.mark.parametrize("method", ["cui", "gradient-activation", "gradient-energy"])
def test_methods(analyzed, method):
    """Each method fills the curve and is named in both records."""
    _, record = analyzed("--method", method)
    assert (method, method) == (record("curve")["method"], record("candidates")["method"])
    assert all(point["cui"] is not None for point in record("curve")["points"])
    assert record("candidates")["candidates"]


def test_methods_differ(analyzed, finished):
    """Another method gives other values."""
    _, record = analyzed("--method", "gradient-energy")
    cui = [point["cui"] for point in read(finished[0], "curve.json")["points"]]
    assert not np.allclose(cui, [point["cui"] for point in record("curve")["points"]], rtol=0.01)


def test_target_predicted(analyzed, finished):
    """--target predicted is recorded; on images that are all predicted right the curve is the same."""
    _, record = analyzed("--target", "predicted")
    assert "predicted" == record("curve")["target"]
    assert "correct" == read(finished[0], "curve.json")["target"]
    before = [point["cui"] for point in read(finished[0], "curve.json")["points"]]
    assert before == pytest.approx([point["cui"] for point in record("curve")["points"]], rel=0.2)


def test_precision_bf16(analyzed, finished):
    """bf16 is recorded, gives nearly the same values and the same candidates."""
    _, record = analyzed("--precision", "bf16")
    assert "bf16" == record("curve")["precision"]
    exact = read(finished[0], "curve.json")["points"]
    assert [p["cui"] for p in exact] == pytest.approx([p["cui"] for p in record("curve")["points"]], rel=0.05)
    expected = [candidate["cut"] for candidate in read(finished[0], "candidates.json")["candidates"]]
    assert expected == [candidate["cut"] for candidate in record("candidates")["candidates"]]


def test_pre_activation(analyzed):
    """--pre-activation puts the convolutions' outputs before the activations on the curve too."""
    _, record = analyzed("--pre-activation")
    assert ["conv1", "relu1", "pool1"] == [point["cut"] for point in record("curve")["points"]][:3]


def test_all_cuts(analyzed):
    """--all-cuts lists every place in graph.json; the default cuts are among them in the same order."""
    _, record = analyzed("--all-cuts")
    cuts = [cut["name"] for cut in record("graph")["cuts"]]
    assert [name for name in MODULES if name in cuts] == [name for name in cuts if name in MODULES]
    assert {"conv1", "relu1", "conv2", "flatten"} <= set(cuts)
