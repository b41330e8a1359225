"""Plan where a model should run, from profiles, links and placements, and simulate plans. Only numpy is needed.

    devices, links ──┐
    study_facts ──> rows ──> costs ──> evaluate ──> choose ──> recommend     (planner puts them in this order)
    tiers, segments: exact placements over machines in a row, and on one device in turn
    transfer, packets: what a payload costs; simulate: many devices

The package and its main function share a name, `isplit.plan`. Importing any of its modules makes Python set that name
to the package, so the package itself can be called: `isplit.plan(study, device="pi4")` is `isplit.plan.planner.plan`.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """A package that can be called as its main function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call `isplit.plan.planner.plan`."""
        return import_module("isplit.plan.planner").plan(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
