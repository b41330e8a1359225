"""Delay and lose Ethernet frames between two interfaces, as netem does, for kernels without it.

`python -m isplit.runtime.frame_relay A B DELAY_MS LOSS_A LOSS_B RATE_A RATE_B` passes frames from A to B and back.
Each frame is delayed, and dropped with the loss probability of the interface that it came from. A frame also takes the
time of its bits at the rate (bits per second). A token bucket such as the kernel's tbf lets the first frames after a
pause pass at once, which neither a cable nor a radio does. `python -m isplit.runtime.frame_relay --plain INTERFACE`
only switches off segmentation and checksum offload, with which the kernel hands over frames that no cable could carry.
Both commands need Linux and the permission to open packet sockets.
"""

import array
import contextlib
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import sys
import time

_ALL_PROTOCOLS = 3
_LONGEST_FRAME_BYTES = 65_536
_SIOCETHTOOL = 0x8946
# ETHTOOL_STXCSUM, ETHTOOL_SSG, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO
_SET_COMMANDS = (0x17, 0x19, 0x1F, 0x24, 0x2C)


def switch_off_offloads(interface: str) -> None:
    """Make the kernel compute checksums and cut segments itself on an interface.

    Raises:
        OSError: there is no such interface, or the permission is missing.

    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in _SET_COMMANDS:
            value = array.array("B", struct.pack("II", command, 0))
            address, _ = value.buffer_info()
            request = struct.pack("16sP", interface.encode(), address).ljust(40, b"\0")
            try:
                fcntl.ioctl(control.fileno(), _SIOCETHTOOL, request)
            except OSError as error:
                # Some kernels tie one feature to another and refuse to change it alone.
                if error.errno not in (95, 22):  # EOPNOTSUPP, EINVAL
                    raise


class FrameRelay:
    """Passes frames between two interfaces. `losses` and `rates` (bits per second) are from the first and the second.

    Frames of one direction leave one after the other, and arrive `delay_ms` after they have left.
    """

    def __init__(
        self,
        first: str,
        second: str,
        *,
        delay_ms: float,
        losses: tuple[float, float],
        rates: tuple[float, float],
        seed: int = 0,
    ) -> None:
        self._sockets = (_open(first), _open(second))
        self._delay_s = delay_ms / 1e3
        self._losses = losses
        self._rates = rates
        self._free_s = [0.0, 0.0]
        self._random = random.Random(seed)
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._count = 0

    def run(self) -> None:
        """Pass frames on until the process ends."""
        while True:
            now_s = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now_s:
                _, _, target, frame = heapq.heappop(self._waiting)
                try:
                    self._sockets[target].send(frame)
                except OSError:
                    continue  # The other end is down or its queue is full, so the frame is lost, as on a cable.
            timeout_s = None if not self._waiting else max(self._waiting[0][0] - time.monotonic(), 0.0)
            ready, _, _ = select.select(self._sockets, (), (), timeout_s)
            for source in ready:
                self._take(self._sockets.index(source))

    def _take(self, source: int) -> None:
        """Read the frames that an interface has received so far."""
        while True:
            try:
                frame, address = self._sockets[source].recvfrom(_LONGEST_FRAME_BYTES)
            except BlockingIOError:
                return
            if address[2] == socket.PACKET_OUTGOING:  # a frame that this process sent
                continue
            sent_s = max(time.monotonic(), self._free_s[source]) + 8 * len(frame) / self._rates[source]
            self._free_s[source] = sent_s
            if self._random.random() < self._losses[source]:
                continue
            self._count += 1
            heapq.heappush(self._waiting, (sent_s + self._delay_s, self._count, 1 - source, frame))


def _open(interface: str) -> socket.socket:
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
    packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
    packets.bind((interface, 0))
    packets.setblocking(False)
    return packets


def _main(arguments: list[str]) -> None:
    if arguments[0] == "--plain":
        switch_off_offloads(arguments[1])
        return
    first, second, *figures = arguments
    delay_ms, first_loss, second_loss, first_rate, second_rate = map(float, figures)
    for interface in (first, second):
        switch_off_offloads(interface)
    relay = FrameRelay(
        first, second, delay_ms=delay_ms, losses=(first_loss, second_loss), rates=(first_rate, second_rate)
    )
    # The process sleeps most of the time. Without a high priority, a frame that waits for the processor would be
    # delayed too long.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))
    sys.stdout.write("relaying\n")
    sys.stdout.flush()
    relay.run()


if __name__ == "__main__":
    _main(sys.argv[1:])
