"""Clients on servers that fail as a script says, and what clients answer."""

import numpy as np

from isplit.runtime.edge.client import EdgeClient
from tests.runtime.edge.conftest import PATIENT, InProcess

CUTS = ("stage.1", "stage.2")


def failing(bundle, *script, **options):
    return EdgeClient(bundle, transport=InProcess(bundle, script), **(PATIENT | options))


def logits(answers):
    return np.array([answer.logits for answer in answers], np.float32)
