"""Compute the answer to a call whose message has arrived, and end calls, for either kind of connection."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

from isplit.runtime.server.refusal import RefusedError

if TYPE_CHECKING:
    from isplit.runtime.server.front.call import Call
    from isplit.runtime.server.front.peer import Peer


def start(call: Call) -> None:
    """Compute the answer to a call, at once if its method can, and else in a task of its own."""
    call.connection.front.receiving.arrived(call)
    call.state = "computing"
    if call.method.answer_now is not None:
        try:
            reply = call.method.answer_now(call)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller must hear of it
            _fail(call, error)
            return
        if reply is not None:
            _answer(call, reply)
            return
    loop = asyncio.get_running_loop()
    if call.deadline < inf:
        call.timer = loop.call_at(call.deadline, _expire, call)
    call.task = loop.create_task(_run(call))


def fine(connection: Peer) -> None:
    """Count a call that was refused before its message had arrived."""
    for debt in connection.debts:
        debt.refused(now=connection.front.now())


def finish(call: Call) -> None:
    """Release everything that a call holds, and tell its computation to stop. Calling it twice does no harm."""
    if call.state == "done":
        return
    call.state = "done"
    call.connection.calls.pop(call.stream_id, None)
    call.outgoing.clear()
    call.release()
    call.connection.front.receiving.forget(call)
    if call.timer:
        call.timer.cancel()
    if call.task and call.task is not asyncio.current_task():
        call.task.cancel()


async def _run(call: Call) -> None:
    try:
        reply = await call.method.answer(call)
    except asyncio.CancelledError:
        if call.state != "done":
            call.connection.refuse(call, RefusedError("UNAVAILABLE", "the server has stopped: ask another"))
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller must hear of it
        _fail(call, error)
    else:
        _answer(call, reply)


def _answer(call: Call, reply: bytes | None) -> None:
    connection = call.connection
    call.release()
    connection.answered += 1
    connection.active_at = connection.front.now()
    for debt in connection.debts:
        debt.answered(call.length or 0, now=connection.active_at)
    if reply is not None:
        connection.send_message(call, reply, last=True)


def _fail(call: Call, error: Exception) -> None:
    if not isinstance(error, RefusedError):
        call.connection.front.failed(call, error)
        msg = f"the server failed ({type(error).__name__}); its log says more"
        error = RefusedError("INTERNAL", msg)
    if call.state != "done":
        call.connection.refuse(call, error)


def _expire(call: Call) -> None:
    if call.state == "computing":
        msg = "the deadline passed before the answer was there"
        call.connection.refuse(call, RefusedError("DEADLINE_EXCEEDED", msg))
