# SPDX-License-Identifier: BSD-3-Clause
"""What bench/compare measures, and what foliod is to reach in it.

A workload names its requests; who takes part follows from its needs.  A
target compares a median of foliod's with the best of some others in the same
run.  The figures asked for are those of the project's first issue.
"""
from dataclasses import dataclass, field

PEERS = ("nbdkit-file", "qemu-nbd", "qemu-nbd-none", "nbd-server")
RAW = "fio-file"                    # fio on the file, without any server


@dataclass
class Target:
    text: str
    metric: str                     # of the result: iops, server_cpu_us...
    than: tuple                     # the best of these counts
    at_least: float = None          # foliod's / theirs
    at_most: float = None
    own: str = "foliod"             # the label compared
    absolute: bool = False          # the limit is a value, not a ratio


@dataclass
class Workload:
    name: str
    text: str
    op: str = "randread"
    block_size: int = 4096
    depth: int = 32
    connections: int = 1
    fua: bool = False
    flush_every: int = 0
    flush_end: bool = False
    once: bool = False
    cold: bool = False              # nothing cached, whole file
    count: int = 0                  # else by time
    durable: bool = False           # only servers that store anything
    tools: tuple = ("load", "fio")
    raw: dict = None                # fio's options on the file itself
    idle: bool = False
    # (label, server, overrides): instead of every server as it is.
    variants: tuple = ()
    targets: list = field(default_factory=list)

    @property
    def writes(self):
        return "write" in self.op


def cheap(share):
    return [
        Target("server CPU to nbdkit memory's", "server_cpu_us",
               ("nbdkit-memory",), at_most=0.25),
        *([Target("server CPU to the echo's", "server_cpu_us", ("echo",),
                  at_most=share)] if share else []),
        Target("IOPS to nbdkit memory's", "iops", ("nbdkit-memory",),
               at_least=3),
        Target("server CPU of nbdkit folio to nbdkit memory's",
               "server_cpu_us", ("nbdkit-memory",), at_most=1.15,
               own="nbdkit-folio"),
    ]


def rate(factor, than, metric="iops"):
    return [Target(f"{metric.replace('bytes_per_second', 'bytes/s')} to "
                   f"{'the best of ' if len(than) > 1 else ''}"
                   f"{', '.join(than)}", metric, than, at_least=factor)]


WORKLOADS = [
    Workload("read-d32", "4 KiB random read, depth 32", targets=cheap(1.6)),
    Workload("write-d32", "4 KiB random write, depth 32", "randwrite",
             targets=cheap(None)),
    Workload("read-d1", "4 KiB random read, depth 1", depth=1,
             targets=rate(1.4, ("nbdkit-memory",))),
    Workload("write-d1", "4 KiB random write, depth 1", "randwrite", depth=1,
             targets=rate(1.4, ("nbdkit-memory",))),
    Workload("read-4x16", "4 KiB random read, 4 connections of depth 16",
             depth=16, connections=4, targets=rate(3, ("nbdkit-memory",))),
    Workload("write-4x16", "4 KiB random write, 4 connections of depth 16",
             "randwrite", depth=16, connections=4,
             targets=rate(3, ("nbdkit-memory",))),
    Workload("read-256k", "256 KiB random read, depth 8", block_size=256 << 10,
             depth=8, targets=rate(0.9, ("echo",), "bytes_per_second")),
    Workload("tls-d32", "4 KiB random read over TLS 1.3, depth 32",
             tools=("load",),
             variants=(("foliod", "foliod", {"tls": True}),
                       ("nbdkit-memory", "nbdkit-memory", {"tls": True}),
                       ("nbdkit-file", "nbdkit-file", {"tls": True})),
             targets=[Target("server CPU to nbdkit memory's", "server_cpu_us",
                             ("nbdkit-memory",), at_most=0.6)]),
    Workload("write-256k", "256 KiB sequential write, depth 8", "write",
             block_size=256 << 10, depth=8,
             targets=rate(1, ("echo",), "bytes_per_second")),
    Workload("flush-32", "4 KiB random write, FLUSH every 32, depth 32",
             "randwrite", flush_every=32, durable=True,
             raw={"rw": "randwrite", "fsync": "32", "direct": "0"},
             targets=rate(1.25, PEERS)),
    Workload("fua-d32", "4 KiB random FUA write, depth 32", "randwrite",
             fua=True, durable=True, tools=("load",),
             raw={"rw": "randwrite", "sync": "dsync", "direct": "1"},
             targets=rate(1, (RAW,))),
    Workload("miss-d32", "4 KiB random read misses, depth 32", once=True,
             cold=True, durable=True,
             raw={"rw": "randread", "direct": "1"},
             targets=rate(0.9, (RAW,))),
    Workload("seq-write", "4 KiB sequential writes of 256 MiB, then FLUSH",
             "write", flush_end=True, count=65536, durable=True, cold=True,
             tools=("load",),
             targets=[Target("device writes for 512 KiB written",
                             "writes_per_512k", (), at_most=1,
                             absolute=True)]),
    Workload("idle", "one idle connection", idle=True, tools=("load",),
             targets=[Target("CPU us a second when idle", "idle_cpu_us", (),
                             at_most=50, absolute=True)]),
    Workload("connections", "4 KiB random read, depth 32: 1 and 64 connections",
             tools=("load",),
             variants=(("foliod", "foliod", {}),
                       ("foliod 64 conns", "foliod", {"connections": 64}),
                       ("echo", "echo", {}),
                       ("echo 64 conns", "echo", {"connections": 64})),
             targets=[Target("server CPU with 64 connections to with 1",
                             "server_cpu_us", ("foliod",), at_most=1.2,
                             own="foliod 64 conns")]),
    Workload("cache-size", "4 KiB random read, depth 32: cache 64 MiB and 8 GiB",
             tools=("load",),
             variants=(("foliod 64M", "foliod",
                        {"cache_size": "64M", "range": 32 << 20}),
                       ("foliod 8G", "foliod",
                        {"cache_size": "8G", "range": 32 << 20}),
                       ("foliod 8G full", "foliod",
                        {"cache_size": "8G", "range": 6 << 30}),
                       ("echo 32M", "echo", {"range": 32 << 20}),
                       ("echo 6G", "echo", {"range": 6 << 30})),
             targets=[Target("server CPU, 8 GiB cache to 64 MiB, same 32 MiB",
                             "server_cpu_us", ("foliod 64M",), at_most=1.2,
                             own="foliod 8G"),
                      Target("server CPU, 6 GiB in 8 GiB to 32 MiB in 64 MiB",
                             "server_cpu_us", ("foliod 64M",), at_most=1.2,
                             own="foliod 8G full")]),
]
