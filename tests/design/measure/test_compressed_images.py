"""The compressed image: sizes of real files, and what the model makes of them, by hand."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from isplit.codec.image import compress, preprocess, restore
from isplit.design.inputs.batches import normalise
from isplit.design.measure.compressed_images import measure_remote
from isplit.design.study import Study
from isplit.records import Compression, Preprocessing, compared_compressions


def test_settings_cover_both_formats_at_three_sizes() -> None:
    """JPEG and WebP at several qualities, and at three quarters and half of the side."""
    compressions = compared_compressions()

    assert len({(setting.format, setting.quality, setting.scale) for setting in compressions}) == len(compressions)
    for name in ("jpeg", "webp"):
        of_format = [setting for setting in compressions if setting.format == name]
        assert {1.0, 0.75, 0.5} == {setting.scale for setting in of_format}
        assert len({setting.quality for setting in of_format if setting.scale == 1}) >= 6


@pytest.mark.parametrize(
    "setting", compared_compressions(), ids=lambda setting: f"{setting.format}-{setting.quality}-{setting.scale}"
)
@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_real(setting: Compression, channels: int, pixels) -> None:
    """What is sent is a file of the format at the scaled size, and comes back at the full size."""
    shown = pixels(0, (16, 24, channels))
    content = compress(shown, setting)
    opened = Image.open(io.BytesIO(content))

    assert setting.format.upper() == opened.format
    assert (round(24 * setting.scale), round(16 * setting.scale)) == opened.size
    preprocessing = Preprocessing(
        image_size=(16, 24),
        resize_size=16,
        interpolation="bilinear",
        channels=channels,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
    assert (16, 24, channels) == restore(opened, preprocessing).shape


def test_quality_costs_bytes() -> None:
    """More quality or a larger side is a larger file."""
    rows, columns = np.mgrid[:64, :64]
    shown = np.stack([rows * 4, columns * 4, (rows * columns) % 256], -1).astype(np.uint8)

    def size(quality: int, scale: float) -> int:
        return len(compress(shown, Compression(format="jpeg", quality=quality, scale=scale)))

    assert size(90, 1) > size(50, 1) > size(10, 1)
    assert size(90, 1) > size(90, 0.75) > size(90, 0.5)


@pytest.mark.parametrize("name", [None, "bars,rows"])
def test_measured_as_by_hand(opened: Study, name: str | None) -> None:
    """Accuracy and bytes of every setting, image after image."""
    view = opened.view(name)
    images = view.images("test", limit=10)
    rows = measure_remote(view, images=images, part="test")
    preprocessing = opened.model.preprocessing

    def right(shown: np.ndarray, index: int) -> bool:
        with torch.no_grad():
            logits = view.classes(opened.graph.module(normalise(torch.from_numpy(shown[None].copy()), preprocessing)))
        return int(logits.argmax()) == view.classes.label_map[opened.data.labels[index]]

    assert [(setting.format, setting.quality, setting.scale) for setting in compared_compressions()] == [
        (setting.format, setting.quality, setting.scale) for setting in rows
    ]
    for setting, measured in zip(compared_compressions(), rows, strict=True):
        lengths, answers, whole = [], [], []
        for index in map(int, images):
            pixels = preprocess(opened.data.image(index), preprocessing)
            content = compress(pixels, setting)
            lengths.append(len(content))
            answers.append(right(restore(Image.open(io.BytesIO(content)), preprocessing), index))
            whole.append(right(pixels, index))
        assert (view.name, "test") == (measured.group, measured.part)
        assert sum(answers) == measured.accuracy.correct
        assert np.mean(lengths) == pytest.approx(measured.payload_bytes.mean)
        assert max(lengths) == measured.payload_bytes.max
        assert (sum(answers) - sum(whole)) / len(images) == pytest.approx(measured.against_whole.difference)
