"""Run messages over a link in the simulator ns-3, for `isplit simulate --engine ns3` and to check our own model.

ns-3's wheel brings a C++ interpreter (cling). The experiment below is written in C++, because a Python call for every
packet would take a hundred times as long. A point-to-point link that loses packets at random joins two nodes. One node
sends a message to the other over an open TCP connection or as UDP datagrams, and the experiment returns the time at
which the last byte arrives.
"""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isplit.errors import needs_extra
from isplit.plan.packets import UDP_HEADER_BYTES, TcpSettings
from isplit.plan.simulation_settings import SimulationSettings
from isplit.plan.simulator import simulate
from isplit.records import LinkRecord, PlanRecord, SimulationRecord, Transport

Values = NDArray[np.float64]

SAMPLES = 300
"""The number of messages of each size that are sent in ns-3. A simulation draws from them."""

_EXPERIMENT = r"""
#include <algorithm>
namespace isplit_ns3 {
using namespace ns3;
static uint64_t wanted = 0, received = 0;
static uint32_t left = 0, piece = 0;
static double last = -1;
static void OnReceive(Ptr<const Packet> packet, const Address&) {
  received += packet->GetSize();
  last = Simulator::Now().GetSeconds();
  if (received >= wanted) Simulator::Stop();
}
static void SendAll(Ptr<Socket> socket) {
  while (left > 0) {
    uint32_t size = std::min(left, piece);
    if (socket->Send(Create<Packet>(size)) < 0) break;
    left -= size;
  }
}
struct Outcome { double seconds; double received; };
Outcome Transfer(double bitsPerSecond, double oneWaySeconds, double loss, double ackLoss, uint32_t mtu, uint32_t header,
                 uint32_t bytes, bool tcp, double minimumRto, uint32_t window, uint32_t run) {
  RngSeedManager::SetSeed(1);
  RngSeedManager::SetRun(run + 1);
  Config::SetDefault("ns3::TcpSocket::SegmentSize", UintegerValue(mtu - header));
  Config::SetDefault("ns3::TcpSocket::InitialCwnd", UintegerValue(window));
  Config::SetDefault("ns3::TcpSocket::DelAckCount", UintegerValue(1));
  Config::SetDefault("ns3::TcpSocket::SndBufSize", UintegerValue(1 << 24));
  Config::SetDefault("ns3::TcpSocket::RcvBufSize", UintegerValue(1 << 24));
  Config::SetDefault("ns3::TcpSocketBase::MinRto", TimeValue(Seconds(minimumRto)));
  Config::SetDefault("ns3::TcpL4Protocol::SocketType", TypeIdValue(TcpNewReno::GetTypeId()));
  wanted = bytes; received = 0; left = bytes; piece = mtu - header; last = -1;
  NodeContainer nodes;
  nodes.Create(2);
  PointToPointHelper link;
  link.SetDeviceAttribute("DataRate", DataRateValue(DataRate(uint64_t(bitsPerSecond))));
  link.SetDeviceAttribute("Mtu", UintegerValue(mtu));
  link.SetQueue("ns3::DropTailQueue<Packet>", "MaxSize", StringValue("1000000p"));
  link.SetChannelAttribute("Delay", TimeValue(Seconds(oneWaySeconds)));
  NetDeviceContainer devices = link.Install(nodes);
  InternetStackHelper internet;
  internet.Install(nodes);
  Ipv4AddressHelper addresses;
  addresses.SetBase("10.1.1.0", "255.255.255.0");
  Ipv4InterfaceContainer interfaces = addresses.Assign(devices);
  TrafficControlHelper().Uninstall(devices);
  TypeId factory = tcp ? TcpSocketFactory::GetTypeId() : UdpSocketFactory::GetTypeId();
  PacketSinkHelper sinkHelper(factory.GetName(), InetSocketAddress(Ipv4Address::GetAny(), 9));
  ApplicationContainer sinks = sinkHelper.Install(nodes.Get(1));
  sinks.Get(0)->TraceConnectWithoutContext("Rx", MakeCallback(&OnReceive));
  sinks.Start(Seconds(0));
  Ptr<Socket> socket = Socket::CreateSocket(nodes.Get(0), factory);
  socket->Bind();
  Simulator::Schedule(Seconds(0.1), [&]() { socket->Connect(InetSocketAddress(interfaces.GetAddress(1), 9)); });
  const double start = 60;
  Simulator::Schedule(Seconds(start), [&]() {
    // The handshake is over; from now on packets are lost.
    for (uint32_t side = 0; side < 2; ++side) {
      double share = side == 1 ? loss : ackLoss;
      if (share <= 0) continue;
      Ptr<RateErrorModel> errors = CreateObject<RateErrorModel>();
      errors->SetAttribute("ErrorUnit", EnumValue<RateErrorModel::ErrorUnit>(RateErrorModel::ERROR_UNIT_PACKET));
      errors->SetAttribute("ErrorRate", DoubleValue(share));
      devices.Get(side)->SetAttribute("ReceiveErrorModel", PointerValue(errors));
    }
    SendAll(socket);
  });
  Simulator::Stop(Seconds(start + 3600));
  Simulator::Run();
  Simulator::Destroy();
  return {last < 0 ? -1 : last - start, double(received)};
}
}
"""


@cache
def _experiment() -> Any:
    """Return the experiment's function `Transfer`, which is compiled once in this process."""
    with needs_extra("ns3"):
        import_module("ns")
        cppyy = import_module("cppyy")
    # Importing the package loads ns-3's libraries, and ns-3's namespace is an attribute of the package.
    assert import_module("ns").ns is not None
    cppyy.cppdef(_EXPERIMENT)
    return cppyy.gbl.isplit_ns3.Transfer


def transfer_with_ns3(
    count_bytes: int,
    link: LinkRecord,
    *,
    up: bool = True,
    transport: Transport = "tcp",
    tcp: TcpSettings,
    packet_bytes: int | None = None,
    runs: int = SAMPLES,
) -> tuple[Values, Values]:
    """Send one message `runs` times in ns-3, and return the milliseconds until its last byte and the received bytes.

    ns-3's TCP has no RACK. A message that loses its last segments therefore waits for the timeout, as with
    `rack=False`. The time of a UDP message of which nothing arrived is NaN.

    Args:
        count_bytes: The length of the message.
        link: The link.
        up: Whether the device sends to the server. Otherwise the server sends to the device.
        transport: TCP or UDP.
        tcp: The behaviour of TCP, as far as ns-3 can follow it.
        packet_bytes: The size of the largest IP packet. None takes the link's.
        runs: How often the message is sent, each time with other random numbers.

    Raises:
        MissingExtraError: ns-3 is not installed.

    """
    transfer = _experiment()
    rate = link.up_bits_per_s if up else link.down_bits_per_s
    loss, other = (link.loss_up, link.loss_down) if up else (link.loss_down, link.loss_up)
    header = tcp.header_bytes if transport == "tcp" else UDP_HEADER_BYTES
    times, received = np.empty(runs), np.empty(runs)
    for run in range(runs):
        outcome = transfer(
            rate,
            link.rtt_ms / 2e3,
            loss,
            other if transport == "tcp" else 0.0,
            packet_bytes or link.mtu_bytes,
            header,
            count_bytes,
            transport == "tcp",
            tcp.rto_ms(link.rtt_ms) / 1e3 if tcp.rto_round_trips == 0 else tcp.rto_floor_ms / 1e3,
            tcp.initial_window,
            run,
        )
        times[run] = outcome.seconds * 1e3 if outcome.seconds >= 0 else np.nan
        received[run] = outcome.received
    return times, received


def simulate_with_ns3(
    plan: PlanRecord | str | Path,
    *,
    placements: Sequence[str] = (),
    link: str | Path | LinkRecord | None = None,
    settings: SimulationSettings,
) -> SimulationRecord:
    """Simulate as `isplit.plan.simulator.simulate` does, with the repair of lost packets drawn from runs in ns-3.

    isplit still simulates the queues on the device, the link and the server. The time of a message beyond its
    serialisation, and the share of it that arrives, are drawn from ns-3's runs with messages of the same size.

    Raises:
        MissingExtraError: ns-3 is not installed.
        InputError: the input is invalid for `simulate`, or the link changes, which cannot be run in ns-3.

    """
    _experiment()
    return simulate(plan, placements=placements, link=link, settings=settings, sample_with=transfer_with_ns3)
