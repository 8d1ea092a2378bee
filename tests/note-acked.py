# SPDX-License-Identifier: BSD-3-Clause
#
# note-acked.py URI LIST PID SIGNAL ACKED FLAGS SEED: write blocks of 4 KiB,
# each full of one 8-byte number, 16 at a time; when ACKED blocks have been
# acknowledged, send SIGNAL to PID and go on until the server is gone.  LIST
# gets a line "block acked sent" for each acknowledged one, see check_acked()
# in clients.sh.  A block has one write in flight at most.

import os
import random
import signal
import sys

import nbd

BLOCK = 4096
NR_BLOCKS = 4096

uri, name, pid, sig, wanted, flags, seed = sys.argv[1:]
rnd = random.Random(seed)
h = nbd.NBD()
h.connect_uri(uri)
acked, sent, flying = {}, {}, {}
turn = 0
signalled = False


def look():
    """Note what has been acknowledged."""
    for block, (cookie, mine) in list(flying.items()):
        if h.aio_command_completed(cookie):
            acked[block] = mine
            del flying[block]


try:
    while True:
        while len(flying) < 16:
            block = rnd.randrange(NR_BLOCKS)
            if block in flying:
                continue
            turn += 1
            data = turn.to_bytes(8, "big") * (BLOCK // 8)
            sent[block] = turn
            cookie = h.aio_pwrite(data, block * BLOCK, flags=int(flags))
            flying[block] = (cookie, turn)
        h.poll(-1)
        look()
        if not signalled and len(acked) >= int(wanted):
            os.kill(int(pid), signal.Signals["SIG" + sig])
            signalled = True
except nbd.Error:
    assert signalled, "the server went before its time"
# An answer may have come with the end; those without one raise an error.
for block, (cookie, mine) in flying.items():
    try:
        if h.aio_command_completed(cookie):
            acked[block] = mine
    except nbd.Error:
        pass
with open(name, "w") as f:
    for block, mine in acked.items():
        print(block, mine, sent[block], file=f)
