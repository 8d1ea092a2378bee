#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Ten thousand clients at a time; and more clients than descriptors, where
# those who got in are served and those who did not are told.

. "$(dirname "$0")/functions.sh" || exit 99

truncate -s 1M "$dir/disk"

cat >"$dir/clients.py" <<'END'
"""clients.py PATH COUNT MINIMUM: connect COUNT clients one after the other,
let each that got in read a block, in two rounds.  At least MINIMUM get in."""
import resource, socket, struct, sys
path, count, minimum = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
if hard != resource.RLIM_INFINITY and hard < count + 50:
    print(f"SKIP: only {hard} descriptors")
    sys.exit(77)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

def receive(s, length):
    data = b""
    while len(data) < length:
        part = s.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return data

def handshake(s):
    receive(s, 18)
    # NO_ZEROES, then EXPORT_NAME with the empty name.
    s.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 1, 0))
    size, flags = struct.unpack(">QH", receive(s, 10))
    assert size == 1 << 20, size

def read(s, cookie):
    s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, cookie, 4096, 512))
    magic, error, got = struct.unpack(">IIQ", receive(s, 16))
    assert (magic, error, got) == (0x67446698, 0, cookie)
    assert receive(s, 512) == bytes(512)

clients, turned_away = [], 0
for i in range(count):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    try:
        s.connect(path)
        handshake(s)
        clients.append(s)
    except (EOFError, ConnectionResetError, BrokenPipeError):
        turned_away += 1
        s.close()
for round in range(2):
    for cookie, s in enumerate(clients):
        read(s, cookie)
print(f"{len(clients)} served, {turned_away} turned away")
assert len(clients) >= minimum
assert len(clients) + turned_away == count
END

count=10000
start_foliod "$dir/disk"
status=0
timeout 300 /usr/bin/python3 "$dir/clients.py" "$sock" $count $count || status=$?
[ "$status" -ne 77 ] || skip "not enough descriptors"
[ "$status" -eq 0 ] || fail "not all were served"
stop_foliod

# 100 descriptors, 200 clients, and the usual cap on connections: it leaves
# descriptors for what foliod does beside them.
(
	ulimit -Sn 100
	ulimit -Hn 100
	exec "$foliod" -U "$dir/sock" --pid-file "$dir/pid" --threads 2 \
		"$dir/disk"
) 2>"$dir/log" &
pid=$!
started+=("$pid")
logs+=("$dir/log")
wait_for 20 test -s "$dir/pid" || fail "it does not start with 100 descriptors"
timeout 100 /usr/bin/python3 "$dir/clients.py" "$dir/sock" 200 20 ||
	fail "those who got in were not served"
grep -q 'turned away: .*--max-connections' "$dir/log" ||
	fail "the log does not say that clients were turned away"
! grep -q 'Too many open files' "$dir/log" || fail "descriptors ran out"
stop_foliod

# The same without a cap that would help.
(
	ulimit -Sn 100
	ulimit -Hn 100
	exec "$foliod" -U "$dir/sock" --pid-file "$dir/pid" \
		--max-connections 1000 "$dir/disk"
) 2>"$dir/log" &
pid=$!
started+=("$pid")
logs+=("$dir/log")
wait_for 20 test -s "$dir/pid" || fail "it does not start with 100 descriptors"
for _ in 1 2; do
	timeout 100 /usr/bin/python3 "$dir/clients.py" "$dir/sock" 200 20 ||
		fail "those who got in were not served"
done
grep -q 'turned away: Too many open files' "$dir/log" ||
	fail "the log does not say that clients were turned away"
# No busy loop, no flood of messages.
[ "$(grep -c 'turned away' "$dir/log")" -le 5 ] || fail "a flood of messages"
stop_foliod
