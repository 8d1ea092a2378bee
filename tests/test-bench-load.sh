#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# bench/nbd-load --verify against bench/nbd-echo and foliod: it does as many
# requests as it was told to, finds all bytes as it wrote them, on several
# connections at once, and a wrong byte is found.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/tls.sh" || exit 99
bench=${abs_top_builddir:-..}/bench
for program in nbd-load nbd-echo; do
	[ -x "$bench/$program" ] || fail "bench/$program is not built"
done
requires python3 --version

# load URI OP REQUESTS FLUSHES [OPTION]...: --verify; the counts are exact.
load()
{
	local uri=$1 op=$2 requests=$3 flushes=$4
	shift 4

	timeout 60 "$bench/nbd-load" --uri "$uri" --op "$op" --verify --json \
		--count "$requests" "$@" >"$dir/out" 2>"$dir/err" || {
		cat "$dir/err"
		fail "nbd-load --op $op $*"
	}
	python3 -c '
import json, sys
op, requests, flushes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
(line,) = sys.stdin
r = json.loads(line)
assert r["op"] == op and r["verified"] is True, r
assert r["requests"] == requests and r["flushes"] == flushes, r
' "$op" "$requests" "$flushes" <"$dir/out" ||
		fail "nbd-load --op $op $*: $(cat "$dir/out")"
}

# all_ops URI [OPTION]...
all_ops()
{
	local uri=$1
	shift

	load "$uri" read 1500 0 "$@"
	load "$uri" write 1500 0 "$@"
	load "$uri" randread 2000 0 "$@"
	load "$uri" randwrite 2000 0 --block-size 512 --range 1M "$@"
	load "$uri" mixed 3000 0 --block-size 12k --seed 7 "$@"
}

"$bench/nbd-echo" -U "$dir/echo.sock" --size $((8 << 20)) 2>"$dir/echo.log" &
started+=("$!")
logs+=("$dir/echo.log")
wait_for 10 test -S "$dir/echo.sock" || fail "nbd-echo does not listen"
echo_uri="nbd+unix:///?socket=$dir/echo.sock"
all_ops "$echo_uri"
all_ops "$echo_uri" --connections 4 --threads 2

truncate -s 8M "$dir/disk"
start_foliod --cache-size 16M --threads 2 "$dir/disk"
all_ops "$uri"
all_ops "$uri" --connections 4 --threads 2 --structured
load "$uri" randwrite 1000 15 --fua --flush-every 64
load "$uri" write 1000 1 --flush-end

# What one run filled is what another one with the same seed expects, and
# what is in the file; but for one byte that somebody changes.
load "$uri" read 10 0 --seed 3
load "$uri" read 2048 0 --seed 3 --warm read
stop_foliod
python3 -c '
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(1234567)
    byte = f.read(1)[0]
    f.seek(1234567)
    f.write(bytes([byte ^ 1]))
' "$dir/disk"
start_foliod --cache-size 16M "$dir/disk"
status=0
timeout 60 "$bench/nbd-load" --uri "$uri" --op read --count 1 --seed 3 \
	--warm read --verify >"$dir/out" 2>&1 || status=$?
[ "$status" -eq 1 ] || fail "a wrong byte: status $status"
grep -qF 'byte 1234567 is not what was written' "$dir/out" ||
	fail "a wrong byte: $(cat "$dir/out")"
stop_foliod

# Over TLS, with a key and with certificates.
if openssl version >/dev/null 2>&1; then
	make_ca "$dir/pki" bench
	make_cert "$dir/pki" "$dir/pki" server localhost
	make_cert "$dir/pki" "$dir/pki" client bench
	{
		echo "other:$(openssl rand -hex 32)"
		echo "bench:$(openssl rand -hex 32)"
	} >"$dir/keys.psk"
	start_foliod --cache-size 16M --threads 2 --tls require \
		--tls-psk "$dir/keys.psk" -b 127.0.0.1:0 "$dir/disk"
	all_ops "nbds://bench@127.0.0.1:$port/" --tls-psk "$dir/keys.psk" \
		--connections 4 --threads 2
	load "nbds://127.0.0.1:$port/" mixed 3000 0 --tls-psk "$dir/keys.psk" \
		--block-size 256k
	grep -q '"encryption": "TLSv1.3 TLS_AES_128_GCM_SHA256"' "$dir/out" ||
		fail "another encryption: $(cat "$dir/out")"
	! "$bench/nbd-load" --uri "nbds://bench@127.0.0.1:$port/" \
		--tls-certificates "$dir/pki" --count 1 >"$dir/out" 2>&1 ||
		fail "a certificate instead of a key"
	stop_foliod
	start_foliod --cache-size 16M --tls require --tls-verify-peer \
		--tls-certificates "$dir/pki" "$dir/disk"
	all_ops "$uri" --tls-certificates "$dir/pki"
	rm "$dir/pki/client-cert.pem"
	! "$bench/nbd-load" --uri "$uri" --count 1 \
		--tls-certificates "$dir/pki" >"$dir/out" 2>&1 ||
		fail "no certificate where one is needed"
	! "$bench/nbd-load" --uri "$uri" --count 1 >"$dir/out" 2>&1 ||
		fail "nbds without credentials"
	stop_foliod
fi
echo "nbd-load: all counts exact, all bytes verified, a wrong one found"
