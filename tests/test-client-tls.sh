#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# TLS with real clients, which use GnuTLS: certificates with and without those
# of clients, shared keys, who is refused, exports with and without it, new
# certificates without a restart, and data that comes through.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
. "$(dirname "$0")/tls.sh" || exit 99
requires openssl version
requires nbdinfo --version
requires nbdcopy --version


# --- Certificates and keys -----------------------------------------------

make_ca "$dir/ca" right
make_ca "$dir/other-ca" wrong
make_cert "$dir/server" "$dir/ca" server localhost
make_cert "$dir/alice" "$dir/ca" client alice
mkdir "$dir/anyone"
cp "$dir/ca/ca-cert.pem" "$dir/anyone/"
# Trusts the server; the server has no reason to trust it.
make_cert "$dir/mallory" "$dir/other-ca" client mallory
cp "$dir/ca/ca-cert.pem" "$dir/mallory/"
# Does not trust the server.
mkdir "$dir/doubtful"
cp "$dir/other-ca/ca-cert.pem" "$dir/doubtful/"

# As psktool writes them.
mkdir "$dir/keys" "$dir/other-keys"
{
	echo "bob:$(openssl rand -hex 16)"
	echo "alice:$(openssl rand -hex 32)"
} >"$dir/keys/keys.psk"
echo "alice:$(openssl rand -hex 32)" >"$dir/other-keys/keys.psk"

random_file "$dir/source" $((24 * 1048576 + 12345))
truncate -s "$(stat -c %s "$dir/source")" "$dir/disk"
truncate -s 32M "$dir/load"

# --- The clients ---------------------------------------------------------

# with_certs DIR [EXPORT], with_key USER DIR [EXPORT]: URIs.
with_certs()
{
	echo "nbds://localhost:$port/${2:-}?tls-certificates=$1"
}

with_key()
{
	echo "nbds://$1@localhost:$port/${3:-}?tls-psk-file=$2/keys.psk"
}

size_is_right()
{
	local size

	size=$(timeout 20 nbdinfo --size "$1" 2>"$dir/err") || {
		cat "$dir/err"
		fail "nbdinfo $1"
	}
	[ "$size" = "$(stat -c %s "$dir/disk")" ] || fail "$1 has $size bytes"
}

# refused URI [TEXT]: and no more than refused: others are still served.
refused()
{
	local status=0

	timeout 20 nbdinfo --size "$1" >"$dir/out" 2>"$dir/err" || status=$?
	[ "$status" -ne 0 ] || fail "$1 was served"
	[ "$status" -ne 124 ] || fail "$1 was left waiting"
	grep -qi "${2:-.}" "$dir/err" || {
		cat "$dir/err"
		fail "$1: another error than '$2'"
	}
}

# round_trip URI CONNECTIONS
round_trip()
{
	timeout 60 nbdcopy --connections="$2" --flush "$dir/source" "$1" ||
		fail "nbdcopy to $1"
	same "$dir/source" "$dir/disk"
	timeout 60 nbdcopy --connections="$2" "$1" "$dir/out" ||
		fail "nbdcopy from $1"
	same "$dir/source" "$dir/out"
}

# qemu_img CREDENTIALS: the volume has what the source has.
qemu_img()
{
	[ -n "$have_qemu_img" ] || return 0
	timeout 60 qemu-img compare --object "$1,id=tls,endpoint=client" \
		--image-opts \
		"driver=raw,file.driver=nbd,file.host=localhost,file.port=$port,file.export=vol,file.tls-creds=tls" \
		"driver=raw,file.driver=file,file.filename=$dir/source" ||
		fail "qemu-img with $1"
}

have_qemu_img=
! qemu-img --version >/dev/null 2>&1 || have_qemu_img=yes

# --- Certificates of the server alone ------------------------------------

start_foliod --bind 127.0.0.1:0 --unix "$dir/sock" --tls require \
	--tls-certificates "$dir/server" vol="$dir/disk"
grep -q "^listening on nbds://127.0.0.1:$port/" "$log" || fail "the URI"
size_is_right "$(with_certs "$dir/anyone" vol)"
size_is_right "nbds+unix:///vol?socket=$dir/sock&tls-certificates=$dir/anyone"
nbdinfo "$(with_certs "$dir/anyone" vol)" | grep -q 'with TLS' ||
	fail "it is not TLS"
refused "$(with_certs "$dir/doubtful" vol)"
refused "nbd://localhost:$port/vol" TLS
refused "$(with_certs "$dir/anyone" nosuch)"
for connections in 1 4; do
	round_trip "$(with_certs "$dir/anyone" vol)" $connections
done
qemu_img "tls-creds-x509,dir=$dir/anyone"

# --- New certificates ----------------------------------------------------

# Of another authority: whoever trusts only the old one is the proof.
stayed=
if nbdsh --version >/dev/null 2>&1; then
	mkfifo "$dir/go"
	# shellcheck disable=SC2016 # Python
	dir=$dir tls_uri=$(with_certs "$dir/anyone" vol) timeout 60 nbdsh -c '
import os
dir = os.environ["dir"]
h.set_uri_allow_local_file(True)
h.connect_uri(os.environ["tls_uri"])
before = bytes(h.pread(4096, 0))
with open(dir + "/ready", "w") as f:
    f.write("ready")
open(dir + "/go").read()
assert bytes(h.pread(4096, 0)) == before
h.pwrite(before, 0)
h.flush()
h.shutdown()' &
	stayed=$!
	wait_for 20 test -s "$dir/ready" || fail "no client before the renewal"
fi
cp -r "$dir/server" "$dir/server.old"
echo nonsense >"$dir/server/server-cert.pem"
kill -HUP "$pid"
wait_for 20 grep -q 'SIGHUP: .*server-cert.pem' "$log" ||
	fail "a certificate that is none is not told"
size_is_right "$(with_certs "$dir/anyone" vol)"
make_cert "$dir/server" "$dir/other-ca" server localhost
kill -HUP "$pid"
wait_for 20 grep -q 'SIGHUP: new clients' "$log" || fail "nothing was reread"
refused "$(with_certs "$dir/anyone" vol)"
size_is_right "$(with_certs "$dir/doubtful" vol)"
if [ -n "$stayed" ]; then
	echo go >"$dir/go"
	wait "$stayed" || fail "the client from before did not get on"
fi
stop_foliod

# --- Certificates of clients ---------------------------------------------

rm -r "$dir/server"
mv "$dir/server.old" "$dir/server"
start_foliod --bind 127.0.0.1:0 --tls=require --tls-verify-peer \
	--tls-certificates="$dir/server" vol="$dir/disk"
size_is_right "$(with_certs "$dir/alice" vol)"
refused "$(with_certs "$dir/anyone" vol)"
refused "$(with_certs "$dir/mallory" vol)"
grep -q 'turned away: TLS handshake: ' "$log" || fail "nobody is told"
round_trip "$(with_certs "$dir/alice" vol)" 2
qemu_img "tls-creds-x509,dir=$dir/alice"
stop_foliod

# --- Shared keys ---------------------------------------------------------

start_foliod --bind 127.0.0.1:0 --tls require --tls-psk "$dir/keys/keys.psk" \
	vol="$dir/disk"
size_is_right "$(with_key alice "$dir/keys" vol)"
size_is_right "$(with_key bob "$dir/keys" vol)"
refused "$(with_key alice "$dir/other-keys" vol)"
refused "$(with_certs "$dir/anyone" vol)"
echo "carol:$(openssl rand -hex 32)" >"$dir/other-keys/keys.psk"
refused "$(with_key carol "$dir/other-keys" vol)"
round_trip "$(with_key alice "$dir/keys" vol)" 4
qemu_img "tls-creds-psk,dir=$dir/keys,username=alice"
stop_foliod

# --- Verified load -------------------------------------------------------

# fio's engine cannot be told credentials: nbdkit's client stands between, with
# a connection for each of fio's.
if nbdkit nbd --dump-plugin >/dev/null 2>&1 &&
	fio --enghelp=nbd >/dev/null 2>&1; then
	start_foliod --bind 127.0.0.1:0 --tls require --cache-size 32M \
		--tls-psk "$dir/keys/keys.psk" vol="$dir/load"
	cd "$dir"
	# shellcheck disable=SC2016 # nbdkit's shell
	timeout 120 nbdkit --unix - nbd hostname=localhost port="$port" \
		export=vol tls=require tls-username=alice \
		tls-psk="$dir/keys/keys.psk" --run 'fio --ioengine=nbd \
		--uri="$uri" --verify=crc32c --verify_fatal=1 --thread \
		--serialize_overlap=1 --numjobs=4 --size=4M \
		--offset_increment=8M --iodepth=16 --name=mixed --rw=randrw \
		--rwmixread=30 --bsrange=512-256k --fsync=32' \
		>"$dir/out" 2>&1 || {
		cat "$dir/out"
		fail "fio over TLS"
	}
	! grep -qE 'verify: bad|err=[^ ]*[1-9]' "$dir/out" || {
		cat "$dir/out"
		fail "fio over TLS"
	}
	stop_foliod
fi

# --- Both, and exports that differ ---------------------------------------

truncate -s 1M "$dir/public" "$dir/plain"
start_foliod --bind 127.0.0.1:0 --tls-certificates "$dir/server" \
	--tls-psk "$dir/keys/keys.psk" \
	--export "name=vol,path=$dir/disk,tls=require" \
	--export "name=public,path=$dir/public,tls=on" plain="$dir/plain"
grep -q "^listening on nbd://127.0.0.1:$port/" "$log" || fail "the URI"
size_is_right "$(with_certs "$dir/anyone" vol)"
size_is_right "$(with_key alice "$dir/keys" vol)"
refused "nbd://localhost:$port/vol" TLS
nbdinfo --size "nbd://localhost:$port/public" >/dev/null || fail "public"
nbdinfo --size "$(with_key bob "$dir/keys" public)" >/dev/null ||
	fail "public, with TLS"
nbdinfo --size "nbd://localhost:$port/plain" >/dev/null || fail "plain"
refused "$(with_certs "$dir/anyone" plain)"
# Who speaks plainly does not learn the name of what it cannot have.
nbdinfo --list "nbd://localhost:$port/" >"$dir/out"
grep -q 'export="public"' "$dir/out" || fail "public is not listed"
! grep -q 'export="vol"' "$dir/out" || fail "vol is listed"
nbdinfo --list "$(with_certs "$dir/anyone")" >"$dir/out"
grep -q 'export="vol"' "$dir/out" || fail "vol is not listed under TLS"
! grep -q 'export="plain"' "$dir/out" || fail "plain is listed under TLS"
stop_foliod

# --- What cannot work ----------------------------------------------------

fails_with 1 "$dir/none/server-cert.pem" -- --tls on --tls-certificates \
	"$dir/none" --unix "$dir/s" "$dir/disk"
cp -r "$dir/server" "$dir/mixed"
cp "$dir/mallory/client-key.pem" "$dir/mixed/server-key.pem"
fails_with 1 server-key.pem -- --tls on --tls-certificates "$dir/mixed" \
	--unix "$dir/s" "$dir/disk"
echo "alice:short" >"$dir/bad.psk"
fails_with 1 "bad.psk: line 1" -- --tls on --tls-psk "$dir/bad.psk" \
	--unix "$dir/s" "$dir/disk"
