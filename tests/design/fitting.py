"""Splits of the small model, trained into directories of their own."""

from safetensors.torch import load

from isplit.design.fit import fit_task, run_fit, trained_directory
from isplit.progress import silent
from isplit.records import Budget
from isplit.records.split_files import read_split_files

SMALL = Budget(payload_bytes=28)


def directory_of(study, settings, budget=SMALL, *, start="closed-form"):
    return trained_directory(fit_task(study, "pool1", budget, start=start, settings=settings))


def fit_into(directory, study, budget, *, progress=silent, **options):
    """Fit at the first pool and save in a directory of its own."""
    return run_fit(fit_task(study, "pool1", budget, **options), directory=directory, progress=progress)


def weights_of(directory):
    return load(read_split_files(directory).weights)


class Interrupt:
    """Progress that interrupts in the middle of an epoch."""

    def __init__(self, where):
        self.where = where

    def __call__(self, what, done, total):
        if self.where in what and done == 2:
            raise KeyboardInterrupt
