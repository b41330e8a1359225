"""A bundle whose placements all answer alike, and images on which they are right."""

import numpy as np
import pytest
from PIL import Image

from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.client import EdgeClient
from tests.runtime.conftest import write_tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """The small bundle of the runtime's tests, whose placements all answer alike."""
    directory = tmp_path_factory.mktemp("bench") / "tiny"
    write_tiny_bundle(directory)
    return Bundle.open(directory)


@pytest.fixture(scope="session")
def folder(bundle, tmp_path_factory):
    """Six images in the folders of the classes that the bundle's whole model gives them, so that it is always right."""
    directory = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    with EdgeClient(bundle) as client:
        for number in range(6):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            answer = client.classify(pixels)
            (directory / answer.class_name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(directory / answer.class_name / f"{number}.png")
    return directory
