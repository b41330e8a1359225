"""Several cuts at once, on Ray: one task for each, which opens the study itself and writes what it trained.

What is finished is on the disk before Ray hears of it, so a lost worker loses nothing but the epoch it was in: Ray
runs its task again, and that goes on from the last checkpoint. Every machine must see the study's directory, the data
and the weights under the same paths. Ray moves arguments and results between its processes as pickles of its own; the
only ones here are names, settings and records.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isplit.design.settings import FitRequest
from isplit.design.study import open_study
from isplit.design.study_lock import study_lock
from isplit.errors import IsplitError, needs_extra
from isplit.progress import Progress, silent
from isplit.ray_cluster import join_ray_cluster
from isplit.records import SplitRecord, StudyRecord

RETRIES = 3
"""How often a cut whose worker is lost is tried again."""


def fit_on_ray(
    request: FitRequest,
    cuts: Sequence[str],
    *,
    address: str | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> list[SplitRecord]:
    """Train cuts on a Ray cluster and return their records in the order of the names.

    Args:
        request: What to train, but for the cut.
        cuts: Names.
        address: HOST:PORT of a cluster; None joins the one that runs here or that RAY_ADDRESS names, else starts one
            on this machine for as long as it takes.
        threads: Processors for each task; None shares those of the cluster out among the cuts, at least one each.
        progress: Called as cuts are finished.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: there is no cluster at the address, or what `fit` refuses.
        IsplitError: a cut's worker was lost time and again.

    Examples:
        >>> settings = isplit.FitSettings(epochs=1, images=12)
        >>> request = isplit.FitRequest(
        ...     directory=Path("study").absolute(),
        ...     budget=isplit.Budget(payload_bytes=64),
        ...     settings=settings,
        ...     allow_code=True,
        ... )
        >>> [record.cut for record in isplit.fit_on_ray(request, ["pool1", "pool2"])]
        ['pool1', 'pool2']

    """
    with needs_extra("ray"):
        import ray
    StudyRecord.load(request.directory)  # a folder that holds no study gets no lock either
    with study_lock(request.directory):
        joined = join_ray_cluster(address)
        try:
            resources = ray.cluster_resources()
            processors = threads or max(1, int(resources.get("CPU", 1)) // max(1, len(cuts)))
            options: dict[str, Any] = {"num_cpus": processors, "max_retries": RETRIES}
            if resources.get("GPU", 0) >= 1:
                options["num_gpus"] = 1
            task: Any = ray.remote(**options)(_fit_one)
            waiting = {task.remote(request, cut, Path.cwd(), processors): cut for cut in cuts}
            records = _collect(waiting, progress)
            return [records[cut] for cut in cuts]
        finally:
            if joined:
                ray.shutdown()


def _collect(waiting: dict[Any, str], progress: Progress) -> dict[str, SplitRecord]:
    """Return the records of tasks by their cuts as they are finished; raise what one of them refused."""
    import ray
    from ray.exceptions import RayError

    count, records = len(waiting), dict[str, SplitRecord]()
    while waiting:
        (task, *_), _ = ray.wait(list(waiting), num_returns=1)
        cut = waiting.pop(task)
        try:
            result = ray.get(task)
        except RayError as error:
            msg = f"{cut}: its worker was lost ({type(error).__name__}); finished cuts are kept, run this again"
            raise IsplitError(msg) from error
        if isinstance(result, IsplitError):
            raise result
        records[cut] = SplitRecord.from_json(result)
        progress("cuts", len(records), count)
    return records


def _fit_one(request: FitRequest, cut: str, working_directory: Path, threads: int) -> str | IsplitError:
    """Run in a worker: train one cut, and return its record as JSON, or what was refused."""
    import torch

    from isplit.design.fit import fit_task, run_fit

    # A study's data and model may be named by relative paths.
    os.chdir(working_directory)
    torch.set_num_threads(threads)
    try:
        study = open_study(
            request.directory,
            model=request.model,
            weights=request.weights,
            data=request.data,
            data_root=request.data_root,
            allow_code=request.allow_code,
        )
        # The driver holds the study's lock; this takes that of the split's folder.
        task = fit_task(
            study,
            cut,
            request.budget,
            group=request.group,
            design=request.design,
            start=request.start,
            settings=request.settings,
        )
        record = run_fit(task)
    except IsplitError as error:
        return error
    return record.to_json()
