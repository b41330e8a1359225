"""isplit.design.inputs.item_sets: the label of an item is the one that the item gives, whatever its set says beside."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

from isplit.design.inputs.item_sets import as_image, read_sets
from isplit.errors import DataError


class Numbers(Dataset):
    """Twelve classes of four images; image i is filled with i."""

    classes = tuple(f"class {k}" for k in range(12))

    def __init__(self, change=lambda label: label, **attributes):
        self.targets = [k // 4 for k in range(48)]
        self.change = change
        vars(self).update(attributes)

    def __len__(self):
        return 48

    def __getitem__(self, index):
        return Image.fromarray(np.full((4, 4), index, np.uint8)), self.change(self.targets[index])


class PassingOn:
    """A wrapper that passes every attribute on, and gives items of its own."""

    def __init__(self, inner, change, **attributes):
        vars(self).update(attributes, inner=inner, change=change)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        image, label = self.inner[index]
        return image, self.change(label)


def read(items):
    return read_sets({"all": items}, spec="x")


def given(items):
    return [int(items[i][1]) for i in range(len(items))]


def test_kept_labels_that_agree():
    """A set whose attribute says what its items say keeps its class names, and nothing is noticed."""
    source = read(Numbers())

    assert given(Numbers()) == source.labels.tolist()
    assert Numbers.classes == source.classes
    assert () == source.notices


@pytest.mark.parametrize(
    "items",
    [
        Numbers(change=lambda label: 11 - label),
        Numbers(change=lambda label: label // 2),
        Numbers(change=lambda label: 0 if label == 7 else label),
        PassingOn(Numbers(), lambda label: (label + 1) % 12),
        Numbers(target_transform=lambda label: label, change=lambda label: (5 * label) % 12),
        Subset(Numbers(change=lambda label: 11 - label), range(0, 48, 3)),
        ConcatDataset([Numbers(change=lambda label: 11 - label), Numbers(change=lambda label: 11 - label)]),
    ],
    ids=["relabels", "merges", "one class", "wrapper", "target_transform", "subset", "concatenated"],
)
def test_items_that_say_otherwise(items):
    """The items' labels are taken; the class names, which are in another order, are not, and that is said."""
    source = read(items)

    assert given(items) == source.labels.tolist()
    assert source.classes == tuple(map(str, range(len(source.classes))))
    assert "the items' labels were taken" in source.notices[0]


def test_folders_with_a_target_transform(tmp_path, write_files, class_files):
    """The usual remedy for "10" sorting before "2": labels are the folders' numbers."""
    write_files(tmp_path, class_files(classes=[str(k) for k in range(12)], count=2))
    names = sorted(str(k) for k in range(12))
    items = ImageFolder(tmp_path, target_transform=lambda index: int(names[index]))

    source = read(items)

    assert given(items) == source.labels.tolist()
    assert tuple(map(str, range(12))) == source.classes


def test_a_wrapper_that_names_its_classes():
    """Names that a wrapper gives itself are those of the labels that it gives."""
    source = read(PassingOn(Numbers(), lambda label: label % 2, classes=["even", "odd"]))

    assert ("even", "odd") == source.classes
    assert [k // 4 % 2 for k in range(48)] == source.labels.tolist()
    assert () == source.notices


def test_parts_of_sets_keep_the_names():
    """A subset, and sets put one after the other, have the class names of what they are made of."""
    items = ConcatDataset([Subset(Numbers(), [47, 0]), Numbers()])

    source = read(items)

    assert Numbers.classes == source.classes
    assert [11, 0, *given(Numbers())] == source.labels.tolist()


def test_sets_of_other_classes_are_not_joined():
    """One label must not stand for two classes, in one set or in its parts."""
    other = Numbers(classes=[f"other {k}" for k in range(12)])

    with pytest.raises(DataError, match="joins sets with different classes"):
        read(ConcatDataset([Numbers(), other]))
    with pytest.raises(DataError, match="joins sets with different classes"):
        read_sets({"train": Numbers(), "test": other}, spec="x")


def test_a_label_that_differs_when_it_is_read():
    """What the sample of items could not show is seen when the image is read, and refused."""
    items = Numbers()
    source = read(items)
    items.change = lambda label: 3

    assert source.read(13).getpixel((0, 0)) == 13
    with pytest.raises(DataError, match="item 20 has the label 3 now, and had 5"):
        source.read(20)


@pytest.mark.parametrize("label", [torch.tensor(1), np.int8(1), np.array([1]), 1])
def test_labels_of_several_kinds(label):
    """A label may be a number, an array or a tensor of one integer."""
    assert {0, 1} == set(read([(Image.new("L", (4, 4)), 0)] * 3 + [(Image.new("L", (4, 4)), label)] * 3).labels)


@pytest.mark.parametrize("label", [1.0, "cat", None, [0, 1], True, torch.tensor([0.0, 1.0])])
def test_labels_that_are_no_integers(label):
    """A float, a name, a truth value or a vector is refused with the item."""
    with pytest.raises(DataError, match="item 0 has the label"):
        read([(Image.new("L", (4, 4)), label)] * 4)


def test_items_that_are_mappings():
    """Items may be mappings with an image and a label, as Hugging Face's are."""
    assert [0, 1] == read([{"image": Image.new("L", (4, 4)), "label": k} for k in range(2)]).labels.tolist()


def test_random_transforms_are_refused():
    """A set that gives other pixels each time cannot be measured twice."""

    class Noisy(Numbers):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return Image.effect_noise(image.size, 50), label

    with pytest.raises(DataError, match="other pixels each time it is read: give the set without random transforms"):
        read(Noisy())


# --- pixels ---


def test_pixels_of_several_kinds(pixels):
    """Arrays, tensors of uint8 and what ToTensor makes give the image's own pixels."""
    array = pixels(0, (8, 6, 3))
    image = Image.fromarray(array)

    for value in (image, array, torch.from_numpy(array).permute(2, 0, 1), ToTensor()(image), torch.from_numpy(array)):
        np.testing.assert_array_equal(array, np.asarray(as_image(value, name="x")))
    for value in (array[..., 0], array[..., :1], torch.from_numpy(array[..., 0]), ToTensor()(image)[:1]):
        np.testing.assert_array_equal(array[..., 0], np.asarray(as_image(value, name="x")))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.randn(3, 8, 8), "floats from .* without its Normalize"),
        (torch.rand(3, 8, 8), "which are no pixels divided by 255"),
        (np.zeros((8, 8, 3), np.float32), "float32"),
        (np.zeros((2, 8, 8), np.uint8), r"uint8 \(2, 8, 8\)"),
        ("a.png", "give a PIL image"),
    ],
)
def test_pixels_that_were_changed(value, message):
    """What is normalised, resized to floats, or no image is refused, with what to do."""
    torch.manual_seed(0)

    with pytest.raises(DataError, match=message):
        as_image(value, name="x")
