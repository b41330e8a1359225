"""Run a TCP proxy that counts bytes, and limits the rate and delays packets as it is told.

It stands for a slow link where no network namespaces can be made. TCP's own behaviour over a slow link (slow start,
losses) is not reproduced, because the links between the proxy and either end are fast.
"""

import asyncio
import contextlib
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

_CHUNK_BYTES = 1448
"""The part of TCP's stream that one Ethernet packet holds; each packet waits for the ones before it."""
_PACKET_OVERHEAD_BYTES = 52
_QUEUE_CHUNKS = 4096


@dataclass(kw_only=True)
class Counted:
    """The bytes that crossed so far, without TCP and IP headers."""

    up_bytes: int = 0
    down_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class ProxyShape:
    """The link of the proxy: rates in bits per second of IP packets (None: unlimited), and the round trip."""

    up_bits_per_s: float | None = None
    down_bits_per_s: float | None = None
    rtt_ms: float = 0.0


UNSHAPED = ProxyShape()


@contextmanager
def proxied(upstream: str, shape: ProxyShape = UNSHAPED) -> Generator[tuple[str, Counted]]:
    """Pass connections on to `upstream` (HOST:PORT) while the block runs; yield the proxy's address and counts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="isplit-proxy", daemon=True)
    thread.start()
    proxy = _Proxy(upstream, shape)
    try:
        address = asyncio.run_coroutine_threadsafe(proxy.start(), loop).result()
        yield address, proxy.counted
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Proxy:
    def __init__(self, upstream: str, shape: ProxyShape) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host.strip("[]"), int(port))
        self._shape = shape
        self.counted = Counted()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        writers = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._upstream)
            writers.append(far_writer)
            await asyncio.gather(
                self._pump(reader, far_writer, self._shape.up_bits_per_s, up=True),
                self._pump(far_reader, writer, self._shape.down_bits_per_s, up=False),
            )
        except (OSError, asyncio.CancelledError):
            pass  # one end has gone; closing the connection tells the other
        finally:
            for each in writers:
                each.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bits_per_s: float | None, *, up: bool
    ) -> None:
        """Pass one direction on: a packet leaves when the one before it has, and arrives half a round trip later."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE_CHUNKS)

        async def deliver() -> None:
            while True:
                arrives_s, content = await waiting.get()
                if (wait_s := arrives_s - loop.time()) > 0:
                    await asyncio.sleep(wait_s)
                if not content:
                    with contextlib.suppress(OSError):
                        writer.write_eof()
                    return
                writer.write(content)
                await writer.drain()

        task = asyncio.create_task(deliver())
        free_s = loop.time()
        try:
            while content := await reader.read(_CHUNK_BYTES):
                self._count(len(content), up=up)
                free_s = max(free_s, loop.time())
                if bits_per_s is not None:
                    free_s += 8 * (len(content) + _PACKET_OVERHEAD_BYTES) / bits_per_s
                await waiting.put((free_s + self._shape.rtt_ms / 2e3, content))
            await waiting.put((free_s + self._shape.rtt_ms / 2e3, b""))
            await task
        finally:
            task.cancel()

    def _count(self, size: int, *, up: bool) -> None:
        if up:
            self.counted.up_bytes += size
        else:
            self.counted.down_bytes += size
