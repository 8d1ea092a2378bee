# SPDX-License-Identifier: BSD-3-Clause
"""The servers that bench/compare measures: how to start, find and stop one.

A server is started afresh for every measurement and ends with it.  Only
processes that were started here are ever signalled.
"""
import os
import shutil
import signal
import socket
import subprocess
import time


class ServerError(Exception):
    """A server did not start, or ended by itself."""


class Crash(ServerError):
    """A server ended by itself while it was measured."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_ns(pid):
    """Processor time of a process and its descendants, as in cpu.c."""
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    total, todo = 0, [pid]
    while todo:
        p = todo.pop()
        try:
            # The clock that clock_getcpuclockid() names: CPUCLOCK_SCHED of p.
            total += time.clock_gettime_ns((~p << 3) | 2)
            with open(f"/proc/{p}/stat") as f:
                fields = f.read().rpartition(")")[2].split()
            total += (int(fields[13]) + int(fields[14])) * tick_ns
            with open(f"/proc/{p}/task/{p}/children") as f:
                todo += [int(child) for child in f.read().split()]
        except OSError:
            if p == pid:
                raise ServerError("the server has ended") from None
    return total


class Server:
    """One kind of server; start() to stop() is one process of it."""

    name = ""
    program = ""            # what must be in PATH
    export = ""             # the name that it serves the disk under
    warm = "read"           # how a hit workload fills its cache
    durable = True          # stores what it is told to FLUSH
    ceiling = False         # no server at all, only a bound

    def __init__(self, config):
        self.config = config
        self.process = None
        self.path = self.find()

    def find(self):
        return shutil.which(self.program)

    def version(self):
        try:
            out = subprocess.run([self.path, "--version"], text=True,
                                 capture_output=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return "unknown"
        lines = (out.stdout + out.stderr).strip().splitlines()
        return lines[0] if lines else "unknown"

    def command(self, disk, sock, port, options):
        raise NotImplementedError

    def tls_options(self, options):
        """foliod's and nbdkit's are spelled alike."""
        return ["--tls=require", f"--tls-psk={self.config.psk}"] \
            if options.get("tls") else []

    @property
    def pid(self):
        return self.process.pid

    def start(self, disk, transport, options):
        """Serve disk; returns when a connection can be made."""
        directory = self.config.scratch
        self.sock = os.path.join(directory, "sock")
        self.port = free_port()
        self.transport = transport
        self.tls = options.get("tls")
        self.log = os.path.join(directory, f"{self.name}.log")
        if os.path.exists(self.sock):
            os.unlink(self.sock)
        unix = transport == "unix"
        argv = self.command(disk, self.sock if unix else None, self.port,
                            options)
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait_ready()

    def wait_ready(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerError(f"{self.name} ended: {self.log_tail()}")
            if self.connectable():
                return
            time.sleep(0.02)
        raise ServerError(f"{self.name} does not listen: {self.log_tail()}")

    def connect(self):
        if self.transport == "unix":
            s = socket.socket(socket.AF_UNIX)
            address = self.sock
        else:
            s = socket.socket()
            address = ("127.0.0.1", self.port)
        s.settimeout(10)
        try:
            s.connect(address)
        except OSError:
            s.close()
            raise
        return s

    def connectable(self):
        try:
            with self.connect() as s:
                # Take the greeting, so that nobody logs a broken pipe.
                return s.recv(18) != b""
        except OSError:
            return False

    def log_tail(self):
        with open(self.log, errors="replace") as f:
            return f.read().strip()[-500:] or "it says nothing"

    def uri(self):
        scheme, user = ("nbds", "bench@") if self.tls else ("nbd", "")
        if self.transport == "unix":
            return f"{scheme}+unix://{user}/{self.export}?socket={self.sock}"
        return f"{scheme}://{user}127.0.0.1:{self.port}/{self.export}"

    def ended(self):
        """How, if it has ended by itself; else None."""
        try:
            status = self.process.wait(1)
        except subprocess.TimeoutExpired:
            return None
        how = f"status {status}" if status >= 0 else \
            signal.Signals(-status).name
        return f"the server ended by itself ({how})"

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None


class Foliod(Server):
    name = "foliod"

    def find(self):
        return self.config.foliod

    def command(self, disk, sock, port, options):
        listen = ["-U", sock] if sock else ["-b", f"127.0.0.1:{port}"]
        return [self.path, *listen,
                "--cache-size", options.get("cache_size", "1G"),
                "-m", "writeback", *self.tls_options(options),
                *self.config.foliod_args, disk]


class NbdkitFile(Server):
    name = "nbdkit-file"
    program = "nbdkit"

    def plugin(self, disk):
        return ["file", disk]

    def command(self, disk, sock, port, options):
        listen = ["-U", sock] if sock else ["-i", "127.0.0.1", "-p", str(port)]
        return [self.path, "-f", *listen, *self.tls_options(options),
                *self.plugin(disk)]


class NbdkitMemory(NbdkitFile):
    name = "nbdkit-memory"
    warm = "write"
    durable = False

    def plugin(self, disk):
        return ["memory", str(os.path.getsize(disk))]


class NbdkitFolio(NbdkitFile):
    """foliod's engine as nbdkit's plugin."""

    name = "nbdkit-folio"

    def find(self):
        return super().find() if self.config.plugin else None

    def command(self, disk, sock, port, options):
        return [*super().command(disk, sock, port, options),
                "cache-size=" + options.get("cache_size", "1G")]

    def plugin(self, disk):
        return [self.config.plugin, disk]


class QemuNbd(Server):
    name = "qemu-nbd"
    program = "qemu-nbd"
    mode = ["--cache=writeback"]

    def command(self, disk, sock, port, options):
        listen = ["-k", sock] if sock else ["-b", "127.0.0.1", "-p", str(port)]
        return [self.path, *listen, "-t", "-e", "1000", "-f", "raw",
                *self.mode, disk]


class QemuNbdNone(QemuNbd):
    name = "qemu-nbd-none"
    mode = ["--cache=none", "--aio=io_uring"]


class NbdServer(Server):
    """It becomes a daemon: its first process ends, the pid file says more."""

    name = "nbd-server"
    program = "nbd-server"
    export = "disk"
    daemon = None

    def command(self, disk, sock, port, options):
        directory = self.config.scratch
        config = os.path.join(directory, "nbd-server.conf")
        self.pid_file = os.path.join(directory, "nbd-server.pid")
        if os.path.exists(self.pid_file):
            os.unlink(self.pid_file)
        listen = (f"unixsock = {sock}" if sock else
                  f"listenaddr = 127.0.0.1\nport = {port}")
        with open(config, "w") as f:
            f.write(f"[generic]\n{listen}\n[disk]\nexportname = {disk}\n"
                    "flush = true\nfua = true\n")
        return [self.path, "-C", config, "-p", self.pid_file]

    @property
    def pid(self):
        return self.daemon

    def ended(self):
        return None if self.ours() else "the server ended by itself"

    def wait_ready(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll():
                raise ServerError(f"{self.name} ended: {self.log_tail()}")
            try:
                with open(self.pid_file) as f:
                    self.daemon = int(f.read())
            except (OSError, ValueError):
                pass
            if self.daemon and self.connectable():
                return
            time.sleep(0.02)
        raise ServerError(f"{self.name} does not listen: {self.log_tail()}")

    def ours(self):
        """Is the pid still the daemon that we started?"""
        try:
            with open(f"/proc/{self.daemon}/cmdline", "rb") as f:
                return self.pid_file.encode() in f.read()
        except OSError:
            return False

    def stop(self):
        if self.process is None:
            return
        self.process.wait()
        if self.daemon and self.ours():
            os.kill(self.daemon, signal.SIGTERM)
            deadline = time.monotonic() + 10
            while self.ours():
                if time.monotonic() > deadline:
                    os.kill(self.daemon, signal.SIGKILL)
                time.sleep(0.02)
        self.daemon = self.process = None


class Echo(Server):
    name = "echo"
    warm = "write"
    durable = False
    ceiling = True

    def find(self):
        return self.config.echo

    def version(self):
        return "bench/nbd-echo"

    def command(self, disk, sock, port, options):
        listen = ["-U", sock] if sock else ["-p", str(port)]
        return [self.path, *listen, "--size", str(os.path.getsize(disk))]


# The order in which they take turns.
KINDS = [Foliod, NbdkitFile, NbdkitMemory, NbdkitFolio, QemuNbd, QemuNbdNone,
         NbdServer, Echo]
