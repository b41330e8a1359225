"""The task that a benchmark hands to the device's process."""

from pathlib import Path

import pytest

from isplit.runtime.bench.device_process import DeviceTask, read_task, write_task
from isplit.runtime.edge.security import Tls


@pytest.mark.parametrize(
    "tls", [None, Tls(), Tls(ca=Path("ca.pem")), Tls(ca=Path("ca.pem"), cert=Path("cert.pem"), key=Path("key.pem"))]
)
def test_task_arrives_as_it_was_sent(tls):
    """Files for TLS are paths again on the other side, and what was not given stays so."""
    task = DeviceTask(
        bundle="bundle", images=("a.png", "b.png"), placement="pool2", server="pi:8001", token="secret", tls=tls
    )
    assert task == read_task(write_task(task))
