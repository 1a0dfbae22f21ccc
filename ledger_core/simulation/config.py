"""What a simulation is asked to do."""

from typing import Annotated

from msgspec import Meta, Struct

Share = Annotated[float, Meta(ge=0, le=1)]


class SimulationConfig(Struct, frozen=True, kw_only=True):
    """One run; equal configurations give equal runs."""

    nodes: Annotated[int, Meta(ge=1, le=5000)] = 10
    """Homes, each with a node."""
    hours: Annotated[float, Meta(gt=0, le=24 * 30)] = 4.0
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 1
    peers: Annotated[int, Meta(ge=1, le=100)] = 8
    """Connections that every node keeps."""

    latency_s: Annotated[float, Meta(ge=0, le=60)] = 0.04
    """Mean one-way delay of a link; links differ from half to twice of it, messages by a quarter."""
    bandwidth_bps: Annotated[float, Meta(ge=1000, le=1e12)] = 5e6
    """Of a home's uplink, bits a second, shared by all its links."""
    loss: Share = 0.001
    """Messages that never arrive: harsher than TCP, whose loss shows as delay or as a broken link."""

    partitions: Annotated[int, Meta(ge=0, le=100)] = 1
    """How often the street falls apart, spread evenly over the run."""
    partition_share: Share = 0.3
    """Nodes in the smaller part."""
    partition_hours: Annotated[float, Meta(ge=0, le=24)] = 0.25

    offline_share: Share = 0.05
    """Nodes that are away at any time."""
    offline_hours: Annotated[float, Meta(gt=0, le=24)] = 0.3
    """How long an absence lasts in the mean."""

    skew_s: Annotated[float, Meta(ge=0, le=3600)] = 2.0
    """Spread (standard deviation) of the clocks."""
    wrong_clocks: Share = 0.02
    """Nodes whose clock is ten minutes off: they must neither mine nor vote."""
    liars: Share = 0.05
    """Nodes that misbehave, in turn in one of the ways of `liars.py`."""

    trades_per_hour: Annotated[float, Meta(ge=0, le=100)] = 0.5
    """Offers that a home makes in an hour, each accepted by another one."""
    readings_per_hour: Annotated[float, Meta(ge=0, le=60)] = 4.0
    """A reading tells of all slots since the last one."""

    block_spacing_s: Annotated[int, Meta(ge=1, le=3600)] = 30
    checkpoint_interval: Annotated[int, Meta(ge=2, le=1000)] = 30
    announce_interval_s: Annotated[float, Meta(gt=0, le=60)] = 0.05
    """How long a node gathers records before it tells its peers."""
    settle_minutes: Annotated[float, Meta(ge=0, le=24 * 60)] = 60.0
    """Quiet time at the end, without partitions, absences and new records: everything must become final."""
