"""isplit.design.check_data: the record shows parts, classes beside outputs, and the pixels that the model sees."""

import base64
import io

import numpy as np
from PIL import Image

from isplit.design.check_data import check_data
from isplit.design.inputs.data import open_data
from isplit.design.inputs.models import load_model


def test_record(tmp_path, class_files, write_files, factory):
    """Counts add up, outputs follow the class map, and the samples are the images as the model gets them."""
    write_files(tmp_path / "data", class_files(classes=("ant", "bee", "cat", "dog"), count=10))
    (tmp_path / "map.json").write_text('["dog", "cat", "bee", "ant"]')
    data, model = open_data(str(tmp_path / "data")), load_model(f"{factory}:make", image_size=16)

    check = check_data(model, data, class_map=tmp_path / "map.json")

    assert {"fit": 32, "select": 4, "test": 4} == check.part_images
    assert [("ant", 3), ("bee", 2), ("cat", 1), ("dog", 0)] == [(row.name, row.output) for row in check.classes]
    assert all({"fit": 8, "select": 1, "test": 1} == row.part_images for row in check.classes)
    assert 9 == len(check.samples)
    assert {"ant", "bee", "cat", "dog"} == {sample.title for sample in check.samples}
    names = [data.name_of(index) for index in range(len(data))]
    for sample in check.samples:
        index = names.index(sample.name)
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sample.png_base64))))
        np.testing.assert_array_equal(data.pixels(index, model.preprocessing), pixels)
        assert data.titles[data.labels[index]] == sample.title
    assert check == check.from_json(check.to_json())
