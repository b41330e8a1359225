"""How images become a model's input: the user's word counts most, then the library's, and guesses are told."""

import numpy as np
import pytest

from isplit.design.inputs.preprocessing import fields_of, given_fields, make_preprocessing
from isplit.errors import ModelError
from isplit.records import Preprocessing

HINTS = {
    "image_size": (224, 200),
    "resize_size": 256,
    "interpolation": "bicubic",
    "channels": 3,
    "mean": (0.1, 0.2, 0.3),
    "std": (0.4, 0.5, 0.6),
}


def prepared(hints, *, channels=3, **given):
    return make_preprocessing(hints, given, channels=channels, spec="net")


def test_library_says_all():
    """Nothing is guessed, and nothing is noticed."""
    preprocessing, notices = prepared(HINTS)

    assert HINTS == {name: getattr(preprocessing, name) for name in HINTS}
    assert [] == notices


def test_user_wins():
    """One size is both sides and the size to resize to, and one mean is that of all channels."""
    preprocessing, notices = prepared(HINTS, image_size=32, mean=0.5)

    assert ((32, 32), 32) == (preprocessing.image_size, preprocessing.resize_size)
    assert ((0.5, 0.5, 0.5), (0.4, 0.5, 0.6)) == (preprocessing.mean, preprocessing.std)
    assert [] == notices


def test_a_given_resize_size_counts():
    """A size to resize to stands where the user gives it, and None there means straight to the size of the input."""
    assert [40, 40] == [prepared(HINTS, **size, resize_size=40)[0].resize_size for size in ({}, {"image_size": 32})]
    assert prepared(HINTS, resize_size=None)[0].resize_size is None


def test_a_whole_preprocessing_is_taken_as_it_is():
    """All fields of a record count, and nothing of what the library says."""
    whole = Preprocessing(
        image_size=(9, 9), resize_size=None, interpolation="bilinear", channels=3, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    assert (whole, []) == prepared(HINTS, **fields_of(whole, name="it"))


def test_fields_of_a_mapping_or_of_nothing():
    """Some fields are taken as they are, and what is neither is refused by its name."""
    assert {"mean": 0.5} == fields_of({"mean": 0.5}, name="it")
    assert {} == fields_of(None, name="it")
    with pytest.raises(ModelError, match="it is a list, not a Preprocessing or a dict"):
        fields_of([], name="it")


def test_a_size_of_images_beside_other_fields():
    """A size to resize to is kept, unless it was given for another size of images, as in a whole record."""
    assert {"resize_size": 40, "image_size": 32} == given_fields({"resize_size": 40}, 32)
    assert {"image_size": 32} == given_fields({"resize_size": 40, "image_size": 36}, 32)
    assert {"resize_size": 40} == given_fields({"resize_size": 40}, None)


def test_an_oblong_size_is_resized_to_as_it_is():
    """There is no short side to resize to where the user gives two sizes."""
    assert prepared(HINTS, image_size=(20, 30))[0].resize_size is None


def test_guesses_are_told():
    """Without any word, pixels are as they are, resized bilinearly; a single guess is not worth a notice."""
    preprocessing, notices = prepared({"image_size": 8}, channels=1)

    assert ("bilinear", 1, (0.0,), (1.0,)) == (
        preprocessing.interpolation,
        preprocessing.channels,
        preprocessing.mean,
        preprocessing.std,
    )
    assert [
        "the model does not say how its images are prepared: bilinear interpolation, mean 0, std 1 assumed"
    ] == notices
    assert [] == prepared({"image_size": 8, "mean": [0.5], "std": [0.5]})[1]


def test_arrays_are_lists():
    """A library may keep its numbers in arrays."""
    preprocessing, _ = prepared(HINTS | {"mean": np.array([0.25, 0.5, 0.75]), "image_size": np.int64(16)})

    assert ((0.25, 0.5, 0.75), (16, 16)) == (preprocessing.mean, preprocessing.image_size)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mean": (0.1, 0.2)}, "must have 1 or 3 values each"),
        ({"std": 0.0}, r"std\.0: Input should be greater than 0 \(got 0\.0\)"),
        ({"std": float("inf")}, "must be finite"),
        ({"mean": float("nan")}, "must be finite"),
        ({"image_size": 0}, r"image_size\.0: Input should be greater than or equal to 1 \(got 0\)"),
        ({"image_size": "wide"}, "net: the preprocessing cannot be used: image_size"),
        ({"image_size": 20_000}, "cannot be used: an input of 20000 x 20000 pixels and 3 channels has more than"),
    ],
)
def test_fields_that_cannot_be(given, words):
    """The message says which field, and what it is."""
    with pytest.raises(ModelError, match=words):
        prepared(HINTS, **given)


def test_unknown_size():
    """A model without any image size is refused, with the two ways out."""
    with pytest.raises(ModelError, match="net does not say what images it takes: pass `image_size=N`"):
        prepared({})
