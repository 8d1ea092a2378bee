#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A thousand clients at once: all are served, on idle connections too, and
# when they are gone the next one is served as the first was.

. "$(dirname "$0")/functions.sh" || exit 99
requires nbdsh --version

nr=1000
ulimit -n $((nr + 200)) 2>/dev/null || skip "no more than $(ulimit -n) files"
truncate -s 16M "$dir/disk"
start_foliod vol="$dir/disk"

cat >"$dir/many.py" <<'EOF'
import socket
import struct
import sys

path, nr = sys.argv[1], int(sys.argv[2])


def receive(s, n):
    data = b""
    while len(data) < n:
        part = s.recv(n - len(data))
        assert part, "the server hung up"
        data += part
    return data


def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(path)
    assert receive(s, 18)[:8] == b"NBDMAGIC"
    s.sendall(struct.pack(">I", 3) + b"IHAVEOPT" +
              struct.pack(">II", 1, 3) + b"vol")
    size, flags = struct.unpack(">QH", receive(s, 10))
    assert size == 16 << 20, size
    return s


def request(s, kind, pos, n, payload=b"", cookie=0):
    s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, kind, cookie, pos, n) +
              payload)


def answer(s, cookie, n=0):
    magic, error, mine = struct.unpack(">IIQ", receive(s, 16))
    assert (magic, error, mine) == (0x67446698, 0, cookie), (error, mine)
    return receive(s, n)


for turn in range(2):
    clients = [connect() for i in range(nr)]
    # Each writes a block of its own; the requests are all under way at once.
    for i, s in enumerate(clients):
        request(s, 1, i * 4096, 4096, struct.pack(">II", turn, i) * 512, i)
    for i, s in enumerate(clients):
        answer(s, i)
    # Each reads that of another one.
    for i, s in enumerate(clients):
        request(s, 0, (nr - 1 - i) * 4096, 4096, b"", i)
    for i, s in enumerate(clients):
        assert answer(s, i, 4096) == struct.pack(">II", turn, nr - 1 - i) * 512
    # A flush by one is a flush of all.
    request(clients[nr // 2], 3, 0, 0)
    answer(clients[nr // 2], 0)
    # Half of them say goodbye, half just go.
    for s in clients[::2]:
        request(s, 2, 0, 0)
    for s in clients:
        s.close()
EOF
timeout 60 /usr/bin/python3 "$dir/many.py" "$sock" $nr || fail "the clients"
nbdsh -u "$uri" -c "
import struct
for i in range($nr):
    assert h.pread(4096, i * 4096) == struct.pack('>II', 1, i) * 512, i
" || fail "the next client"
# All of their descriptors are given back.
few_files()
{
	local files=("/proc/$pid/fd"/*)

	[ ${#files[@]} -lt 100 ]
}
wait_for 20 few_files || fail "descriptors of clients that are gone"
stop_foliod
