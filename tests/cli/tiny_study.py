"""What `isplit analyze` leaves of the small model."""

import json
from pathlib import Path

MODULES = ("conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "conv3", "relu3", "avgpool", "flatten", "fc")
RECORDS = ("study.json", "graph.json", "curve.json", "candidates.json")


def read(directory, name):
    """Return a record of a study as JSON has it."""
    return json.loads((Path(directory) / name).read_text())
