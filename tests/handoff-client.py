# SPDX-License-Identifier: BSD-3-Clause
"""A client of test-client-handoff.sh, and those that pretend to be foliod.

Says a word a line on standard output and goes on when it reads a line, so that
the test does something at just that moment.
"""
import array
import os
import random
import select
import socket
import struct
import sys

OPTS = 0x49484156454f5054
READ, WRITE, DISC, FLUSH, BLOCK_STATUS = 0, 1, 2, 3, 7
SIMPLE, CHUNK, EXTENDED = 0x67446698, 0x668e33ef, 0x6e8a278c


def step(word):
    print(word, flush=True)
    if not sys.stdin.readline():
        sys.exit("the test is gone")


class Client:
    """Speaks NBD as bytes, so that it can stop in the middle of anything."""

    def __init__(self, path, name="vol"):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(60)
        self.s.connect(path)
        self.name = name.encode()
        self.extended = self.structured = False
        self.get(18)
        self.cookie = 0

    def get(self, n):
        data = bytearray()
        while len(data) < n:
            part = self.s.recv(n - len(data))
            if not part:
                raise EOFError("the server hung up")
            data += part
        return bytes(data)

    def put(self, data):
        self.s.sendall(data)

    def flags(self):
        self.put(struct.pack(">I", 3))

    def option(self, number, data=b""):
        self.put(struct.pack(">QII", OPTS, number, len(data)) + data)

    def answers(self):
        """Until the last one: [(type, data)]."""
        found = []
        while True:
            _, _, kind, n = struct.unpack(">QIII", self.get(20))
            found.append((kind, self.get(n)))
            if kind == 1 or kind & 0x80000000:
                return found

    def ask(self, number, data=b""):
        self.option(number, data)
        found = self.answers()
        assert found[-1][0] == 1, (number, found)
        return found

    def named(self, more):
        return struct.pack(">I", len(self.name)) + self.name + more

    def structure(self):
        self.ask(8)
        self.structured = True

    def extend(self):
        self.ask(11)
        self.extended = self.structured = True

    def meta(self):
        query = b"base:allocation"
        found = self.ask(10, self.named(struct.pack(">II", 1, len(query)) +
                                        query))
        self.context = struct.unpack(">I", found[0][1][:4])[0]

    def go(self):
        self.ask(7, self.named(struct.pack(">H", 0)))

    def head(self, kind, pos, n, flags=0):
        self.cookie += 1
        if self.extended:
            return struct.pack(">IHHQQQ", 0x21e41c71, flags, kind,
                               self.cookie, pos, n)
        return struct.pack(">IHHQQI", 0x25609513, flags, kind, self.cookie,
                           pos, n)

    def reply(self):
        """One reply: (cookie, error, {pos: data}, extents)."""
        data, extents = {}, []
        while True:
            magic = struct.unpack(">I", self.get(4))[0]
            if magic == SIMPLE:
                assert not self.extended
                error, cookie = struct.unpack(">IQ", self.get(12))
                return cookie, error, data, extents
            if magic == EXTENDED:
                assert self.extended
                flags, kind, cookie, _, n = struct.unpack(">HHQQQ",
                                                          self.get(28))
            else:
                assert magic == CHUNK and not self.extended, hex(magic)
                flags, kind, cookie, n = struct.unpack(">HHQI", self.get(16))
            body = self.get(n)
            if kind == 1:
                data[struct.unpack(">Q", body[:8])[0]] = body[8:]
            elif kind == 2:
                pos, n = struct.unpack(">QI", body)
                data[pos] = bytes(n)
            elif kind in (5, 6):
                assert struct.unpack(">I", body[:4])[0] == self.context
                extents.append(body[4:])
            elif kind:
                return cookie, struct.unpack(">I", body[:4])[0], data, extents
            if flags & 1:
                return cookie, 0, data, extents

    def write(self, pos, data, flags=0):
        self.put(self.head(WRITE, pos, len(data), flags) + data)
        assert self.reply() == (self.cookie, 0, {}, [])

    def read(self, pos, n):
        self.put(self.head(READ, pos, n))
        if not self.structured:
            magic, error, cookie = struct.unpack(">IIQ", self.get(16))
            assert (magic, error, cookie) == (SIMPLE, 0, self.cookie)
            return self.get(n)
        cookie, error, data, _ = self.reply()
        assert (cookie, error) == (self.cookie, 0)
        return b"".join(data[pos] for pos in sorted(data))

    def status(self, pos, n):
        self.put(self.head(BLOCK_STATUS, pos, n))
        cookie, error, _, extents = self.reply()
        assert (cookie, error) == (self.cookie, 0) and extents
        return extents


def clients(path):
    """Everything that a connection can be in the middle of."""
    rnd = random.Random(int(os.environ.get("FOLIOD_SEED", "1")))
    plain = Client(path)
    plain.flags()
    plain.go()
    before = rnd.randbytes(300000)
    plain.write(4096, before)

    structured = Client(path)
    structured.flags()
    structured.structure()
    structured.meta()
    structured.go()
    extents = structured.status(0, 1 << 20)

    extended = Client(path)
    extended.flags()
    extended.extend()
    extended.meta()
    extended.go()
    ext_extents = extended.status(0, 1 << 20)

    # In their handshakes.
    greeted = Client(path)
    named = Client(path)
    named.flags()
    named.structure()
    named.meta()
    half_option = Client(path)
    half_option.flags()
    half_option.put(struct.pack(">QI", OPTS, 7))

    # Half a head; half of a small payload, of one that is staged, and of one
    # that is refused and dropped; and of each with extended headers.
    halves = []
    for kind in ("head", "small", "staged", "refused"):
        for extend in (False, True):
            c = Client(path)
            c.flags()
            if extend:
                c.extend()
            c.go()
            n = {"head": 512, "small": 20000}.get(kind, 1500000)
            pos = (1 << 50) if kind == "refused" else \
                (16 << 20) + len(halves) * (2 << 20) + 333
            data = rnd.randbytes(n)
            whole = c.head(WRITE, pos, n) + data
            cut = 11 if kind == "head" else len(whole) // 2
            c.put(whole[:cut])
            halves.append((kind, c, pos, data, whole[cut:]))

    # More replies than the socket takes, and nobody who takes them yet.
    lazy = Client(path)
    lazy.flags()
    lazy.structure()
    lazy.go()
    for i in range(40):
        lazy.put(lazy.head(READ, 4096, 65536))

    # Many at once.
    busy = Client(path)
    busy.flags()
    busy.structure()
    busy.go()
    blocks = {}
    out = b""
    for i in range(200):
        data = rnd.randbytes(4096)
        blocks[(40 << 20) + i * 8192] = data
        out += busy.head(WRITE, (40 << 20) + i * 8192, 4096) + data
    busy.put(out)

    step("ready")

    assert sorted(busy.reply()[0] for i in range(200)) == list(range(1, 201))
    for pos, data in blocks.items():
        assert busy.read(pos, 4096) == data
    for i in range(40):
        cookie, error, data, _ = lazy.reply()
        assert error == 0
        assert b"".join(data[p] for p in sorted(data)) == before[:65536]
    assert lazy.read(4096, 1000) == before[:1000]
    for kind, c, pos, data, rest in halves:
        c.put(rest)
        cookie, error, _, _ = c.reply()
        assert cookie == c.cookie, kind
        if kind == "refused":
            assert error == 28, (kind, error)
        else:
            assert error == 0, (kind, error)
            assert c.read(pos, len(data)) == data, kind
        assert c.read(4096, 512) == before[:512]
    assert plain.read(4096, 300000) == before
    assert structured.status(0, 1 << 20) == extents
    assert structured.read(4096, 300000) == before
    assert extended.status(0, 1 << 20) == ext_extents
    assert extended.read(4096, 300000) == before
    greeted.flags()
    greeted.structure()
    greeted.meta()
    greeted.go()
    assert greeted.status(0, 1 << 20) == extents
    named.go()
    assert named.status(0, 1 << 20) == extents
    rest = named.named(struct.pack(">H", 0))
    half_option.put(struct.pack(">I", len(rest)) + rest)
    assert half_option.answers()[-1][0] == 1
    assert half_option.read(4096, 1000) == before[:1000]
    print("done", flush=True)


def steady(path):
    """Read and write until told to stop; nothing may ever fail."""
    c = Client(path)
    c.flags()
    c.go()
    n = 0
    print("ready", flush=True)
    while not select.select([0], [], [], 0)[0]:
        data = n.to_bytes(8, "big") * 512
        c.write(n % 64 * 4096, data)
        assert c.read(n % 64 * 4096, 4096) == data
        n += 1
    print("done", flush=True)


# ---- those that pretend to be foliod ----

MAGIC = 0x666f6c48
HELLO, REFUSED, LISTENER, CONN, END, READY, GO = range(1, 8)


def message(kind, body=b"", nr_fds=0, version=1, magic=MAGIC, n=None):
    return struct.pack(">IHHII", magic, version, kind,
                       len(body) if n is None else n, nr_fds) + body


def receive(s):
    """One message; its descriptors are closed."""
    fds = array.array("i")
    data = b""
    while len(data) < 16:
        part, ancillary, _, _ = s.recvmsg(16 - len(data), 1024)
        if not part:
            return None, b""
        data += part
        for level, kind, more in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(more)
    for fd in fds:
        os.close(fd)
    _, _, kind, n, nr = struct.unpack(">IHHII", data)
    assert nr == len(fds), (kind, nr, len(fds))
    body = b""
    while len(body) < n:
        part = s.recv(n - len(body))
        if not part:
            return None, b""
        body += part
    return kind, body


def new(path, until):
    """A new foliod that ends @until it has come so far."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(path)
    if until == "connected":
        return
    if until == "silence":
        # It is turned away, in time.
        assert receive(s)[0] == REFUSED
        return
    garbage = {
        "noise": os.urandom(400),
        "version": message(HELLO, version=2),
        "type": message(READY),
        "unknown": message(99),
        "long": message(HELLO, n=1 << 31),
        "fds": message(HELLO, nr_fds=3),
        "body": message(HELLO, b"hello"),
    }
    if until in garbage:
        s.sendall(garbage[until])
        try:
            while s.recv(1000):
                pass
        except ConnectionResetError:
            pass
        return
    if until == "half":
        s.sendall(message(HELLO)[:7])
        return
    s.sendall(message(HELLO))
    if until == "asked":
        return
    kind, body = receive(s)
    assert kind == LISTENER, (kind, body)
    if until == "listener":
        return
    while kind in (LISTENER, CONN):
        kind, body = receive(s)
        if until == "conn" and kind == CONN:
            return
    assert kind == END, (kind, body)
    if until == "told":
        return
    if until == "refuses":
        s.sendall(message(REFUSED, b"just because"))
    elif until == "confused":
        s.sendall(message(HELLO))
    else:
        assert until == "noisy", until
        s.sendall(os.urandom(1000))
    assert receive(s)[0] == REFUSED


def old(path, says):
    """An old foliod that @says something else than it should."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    print("ready", flush=True)
    s, _ = listener.accept()
    s.settimeout(60)
    assert s.recv(16) == message(HELLO)
    sock = b"0 0\0unix /x\0/x\0\0"

    def send(kind, body, fds):
        s.sendmsg([message(kind, body, len(fds))],
                  [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                    array.array("i", fds))] if fds else [])

    if says == "noise":
        s.sendall(os.urandom(1000))
    elif says == "refused":
        s.sendall(message(REFUSED, b"not today"))
    elif says == "version":
        s.sendall(message(END, bytes(24), version=9))
    elif says == "end":
        s.sendall(message(END, bytes(24)))
    elif says == "no-fd":
        s.sendall(message(LISTENER, sock, 1))
    elif says == "no-listener":
        send(LISTENER, sock, [s.fileno()])
    elif says == "bad-conn":
        send(LISTENER, sock, [listener.fileno()])
        send(CONN, os.urandom(200), [s.fileno()])
    elif says == "go":
        send(LISTENER, sock, [listener.fileno()])
        s.sendall(message(GO))
    elif says == "too-few":
        send(LISTENER, sock, [listener.fileno()])
        s.sendall(message(END, struct.pack(">QQQ", 1, 5, 0)))
    else:
        assert says == "dies", says
        send(LISTENER, sock, [listener.fileno()])
        s.sendall(message(END, struct.pack(">QQQ", 1, 0, 0)))
        assert receive(s)[0] == READY
        return
    try:
        while s.recv(1000):
            pass
    except ConnectionResetError:
        pass


def main():
    {"clients": clients, "steady": steady, "new": new,
     "old": old}[sys.argv[1]](*sys.argv[2:])


main()
