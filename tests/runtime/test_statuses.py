"""isplit.runtime.statuses: the numbers of statuses are gRPC's."""

import grpc

from isplit.runtime.statuses import STATUS_CODES


def test_numbers_are_those_of_grpc():
    """Every status has the number under which a gRPC client knows it."""
    assert {name: grpc.StatusCode[name].value[0] for name in STATUS_CODES} == STATUS_CODES
