#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Who may, by what is proved under TLS: subjects and alternative names of
# certificates, users of shared keys; that what is not proved is not believed;
# and listeners with TLS beside others without.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
. "$(dirname "$0")/tls.sh" || exit 99
requires openssl version
requires nbdinfo --version

make_ca "$dir/ca" right
make_ca "$dir/other-ca" wrong
make_cert "$dir/server" "$dir/ca" server localhost
make_cert "$dir/alice" "$dir/ca" client "/C=DE/O=Example, Inc./CN=alice" \
	"DNS:Client.Example,URI:spiffe://example/alice,email:alice@example"
# What begins as hers does; what is spelled as if it were two; her name from
# another authority.
make_cert "$dir/alice2" "$dir/ca" client "/C=DE/O=Example, Inc./CN=alice2" \
	"DNS:client.example.org"
make_cert "$dir/sly" "$dir/ca" client "/CN=alice,O=Example\\\\, Inc.,C=DE"
make_cert "$dir/mallory" "$dir/other-ca" client \
	"/C=DE/O=Example, Inc./CN=alice" "DNS:client.example"
cp "$dir/ca/ca-cert.pem" "$dir/mallory/"
mkdir "$dir/keys"
{
	echo "anna:$(openssl rand -hex 32)"
	echo "bob:$(openssl rand -hex 32)"
} >"$dir/keys/keys.psk"
random_file "$dir/disk" 1048576

# --- The clients ---------------------------------------------------------

# as WHO [EXPORT]: a URI; WHO has a directory of certificates, or a key.
as()
{
	if [ -d "$dir/$1" ]; then
		echo "nbds://localhost:$port/${2:-}?tls-certificates=$dir/$1"
	else
		echo "nbds://$1@localhost:$port/${2:-}?tls-psk-file=$dir/keys/keys.psk"
	fi
}

# list_is URI NAME...: exactly these are listed there.
list_is()
{
	local uri=$1 got want
	shift

	got=$({ timeout 20 nbdinfo --list "$uri" 2>"$dir/err" || :; } |
		sed -n 's/^export="\(.*\)":$/\1/p' | sort | tr '\n' ' ')
	want=$(printf '%s\n' "$@" | sed '/^$/d' | sort | tr '\n' ' ')
	[ "$got" = "$want" ] ||
		fail "$uri lists '$got', not '$*' ($(cat "$dir/err"))"
}

gets_in()
{
	[ "$(timeout 20 nbdinfo --size "$1" 2>"$dir/err")" = 1048576 ] ||
		fail "refused at $1: $(cat "$dir/err")"
}

# is_unknown URI EXPORT: the answer is that for a name that nobody has.
is_unknown()
{
	! timeout 20 nbdinfo --size "$1" >"$dir/out" 2>"$dir/err" ||
		fail "$1 is there"
	! timeout 20 nbdinfo --size "${1/\/$2?/\/nobody-has-this?}" \
		>"$dir/out" 2>"$dir/err2" || fail "nobody-has-this is there"
	[ "$(sed "s/$2/NAME/g" "$dir/err")" = \
	  "$(sed "s/nobody-has-this/NAME/g" "$dir/err2")" ] || {
		diff "$dir/err" "$dir/err2"
		fail "another answer than for an unknown name"
	}
}

refused()
{
	local status=0

	timeout 20 nbdinfo --list "$1" >"$dir/out" 2>"$dir/err" || status=$?
	[ "$status" -ne 0 ] || fail "$1 was served"
	[ "$status" -ne 124 ] || fail "$1 was left waiting"
}

# --- Certificates --------------------------------------------------------

# The subject as openssl says it is written.
subject=$(openssl x509 -noout -subject -nameopt RFC2253 \
	-in "$dir/alice/client-cert.pem")
subject=${subject#subject=}
# shellcheck disable=SC1003 # a backslash, not an escape
[ "$subject" = 'CN=alice,O=Example\, Inc.,C=DE' ] || fail "subject '$subject'"

# what NAME ALLOW: an export.
what()
{
	echo "name=$1,path=$dir/disk,read-only,allow=$2"
}
start_foliod --bind 127.0.0.1:0 --tls=require --tls-verify-peer \
	--tls-certificates "$dir/server" --allow 192.0.2.1 \
	--export "$(what dn "dn:${subject//,/,,}")" \
	--export "$(what part "dn:CN=alice")" \
	--export "$(what dns san:DNS:client.example)" \
	--export "$(what uri san:URI:spiffe://example/alice)" \
	--export "$(what email san:email:alice@example)" \
	--export "$(what other "dn:CN=alice2,,O=Example\\,, Inc.,,C=DE")" \
	--export "$(what two "dn:CN=nobody,allow=san:DNS:client.example.org")" \
	--export "$(what all any)" --read-only "$dir/disk"
list_is "$(as alice)" dn dns uri email all
list_is "$(as alice2)" other two all
list_is "$(as sly)" all
gets_in "$(as alice dn)"
gets_in "$(as alice2 two)"
is_unknown "$(as alice other)" other
is_unknown "$(as alice part)" part
is_unknown "$(as alice disk)" disk
is_unknown "$(as sly dn)" dn
refused "$(as mallory)"
refused "nbd://localhost:$port"
if qemu-img --version >/dev/null 2>&1; then
	# qemu_info EXPORT
	qemu_info()
	{
		timeout 60 qemu-img info --object \
			"tls-creds-x509,id=tls,endpoint=client,dir=$dir/alice" \
			--image-opts "driver=raw,file.driver=nbd,file.host=localhost,file.port=$port,file.export=$1,file.tls-creds=tls" \
			>"$dir/out" 2>&1
	}
	qemu_info dn || fail "qemu-img: $(cat "$dir/out")"
	! qemu_info other || fail "qemu-img gets what is not for it"
fi
stop_foliod

# Without --tls-verify-peer nobody is asked who it is, and what cannot be
# proved cannot be a rule.
fails_with 2 "allow" "--tls-verify-peer" -- --tls=require \
	--tls-certificates "$dir/server" --allow dn:CN=alice "$dir/disk"
fails_with 2 "allow" "--tls-psk" -- --allow psk:alice "$dir/disk"
fails_with 2 "allow" "plain clients" -- --tls-psk "$dir/keys/keys.psk" \
	--allow psk:alice "$dir/disk"
fails_with 2 "--allow: 'dn:alice'" -- --allow dn:alice "$dir/disk"

# --- Shared keys, and plain clients beside them --------------------------

start_foliod --bind 127.0.0.1:0 --tls=on --tls-psk "$dir/keys/keys.psk" \
	--export "$(what anna psk:anna)" --export "$(what bob psk:bob)" \
	--export "$(what carol psk:carol)" \
	--export "$(what both "psk:anna,allow=psk:bob")" \
	--export "$(what near "127.0.0.1")"
list_is "$(as anna)" anna both near
list_is "$(as bob)" bob both near
list_is "nbd://localhost:$port" near
gets_in "$(as bob both)"
gets_in "nbd://localhost:$port/near"
if nbdcopy --version >/dev/null 2>&1; then
	timeout 60 nbdcopy "$(as bob both)" "$dir/out" || fail "nbdcopy"
	same "$dir/disk" "$dir/out"
	! timeout 60 nbdcopy "$(as bob anna)" "$dir/out" 2>"$dir/err" ||
		fail "nbdcopy gets what is not for it"
fi
is_unknown "$(as bob anna)" anna
is_unknown "nbd://localhost:$port/anna?" anna
# A user who is new, and one who is no more.
echo "carol:$(openssl rand -hex 32)" >>"$dir/keys/keys.psk"
sed '/^bob:/d' "$dir/keys/keys.psk" >"$dir/keys/new"
cp "$dir/keys/keys.psk" "$dir/keys/old"
mv "$dir/keys/new" "$dir/keys/keys.psk"
refused "$(as carol)"
kill -HUP "$pid"
wait_for 20 grep -q 'SIGHUP: new clients' "$log" || fail "nothing was reread"
list_is "$(as carol)" carol near
gets_in "$(as carol carol)"
mv "$dir/keys/old" "$dir/keys/keys.psk"
refused "$(as bob)"
stop_foliod

# --- Listeners -----------------------------------------------------------

start_foliod --bind 127.0.0.1:0,tls=require --unix "$dir/sock" \
	--bind 127.0.0.1:0,tls=on --tls-psk "$dir/keys/keys.psk" \
	free="$dir/disk" --export "name=strict,path=$dir/disk,read-only,tls=require" \
	--read-only
mapfile -t ports < <(sed -n \
	's|^listening on nbds*://127.0.0.1:\([0-9]*\)/.*|\1|p' "$log")
[ "${#ports[@]}" -eq 2 ] || fail "ports: ${ports[*]}"
for where in "nbds://127.0.0.1:${ports[0]}/" \
	"nbd://127.0.0.1:${ports[1]}/" nbd+unix:; do
	grep -q "^listening on $where" "$log" || fail "the URI $where"
done
port=${ports[0]}
refused "nbd://localhost:$port"
list_is "$(as anna)" free strict
gets_in "$(as anna free)"
port=${ports[1]}
list_is "nbd://localhost:$port" free
list_is "$(as anna)" free strict
gets_in "$(as anna free)"
# On the unix socket only what the exports themselves ask for counts.
list_is "nbd+unix:///?socket=$dir/sock" free
list_is "nbds+unix://anna@/?socket=$dir/sock&tls-psk-file=$dir/keys/keys.psk" \
	strict
stop_foliod

# Where nothing is to be had with TLS, there is none: a client that would like
# it goes on without.
start_foliod --unix "$dir/sock" --bind 127.0.0.1:0,tls=require \
	--tls-psk "$dir/keys/keys.psk" "$dir/disk"
grep -q "^listening on nbds://127.0.0.1:" "$log" || fail "the URI"
refused "nbds+unix://anna@/?socket=$dir/sock&tls-psk-file=$dir/keys/keys.psk"
if nbdsh --version >/dev/null 2>&1; then
	sock=$dir/sock timeout 60 nbdsh -c '
import os
h.set_tls(nbd.TLS_ALLOW)
h.connect_unix(os.environ["sock"])
assert not h.get_tls_negotiated()
assert h.get_size() == 1048576' || fail "a client that would take TLS"
fi
stop_foliod

# A listener for everybody is not one if its clients prove who they are.
start_foliod --bind 0.0.0.0:0,tls=require --tls-psk "$dir/keys/keys.psk" \
	"$dir/disk"
! grep -q warning "$log" || fail "a warning in spite of TLS"
stop_foliod
start_foliod --bind 0.0.0.0:0,tls=require --bind 0.0.0.0:0 \
	--tls-psk "$dir/keys/keys.psk" "$dir/disk"
[ "$(grep -c 'warning: .*not authenticated' "$log")" -eq 1 ] ||
	fail "the plain one is not warned of, or both are"
stop_foliod
