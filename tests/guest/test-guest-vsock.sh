#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# foliod on vsock, which needs a kernel that has it: here it is the guest's, and
# server and client are both there.  What is copied in and out is the same, who
# may have an export is decided by context id, and its URI is one that works.

. "$(dirname "$0")/guest.sh" || exit 99
share_program "$foliod" nbdinfo nbdcopy

guest_run <<'EOF'
export LD_LIBRARY_PATH=/share/lib PATH=/share/bin:$PATH
cd /tmp
truncate -s 64M disk other users

# serve ARGUMENT...: sets $server and $uri.
serve()
{
	: >log
	foliod --threads 1 --cache-size 16M "$@" 2>>log &
	server=$!
	until grep -q '^listening on ' log; do
		kill -0 "$server" || die "foliod has ended: $(cat log)"
		sleep 0.1
	done
	uri=$(sed -n 's/^listening on //p' log)
}

end()
{
	kill -TERM "$server"
	wait "$server" || die "foliod ended with status $?"
}

# On all ids that the machine has, which is none but the loopback.
serve --vsock 0 --export name=vol,path=disk,allow=cid:1 \
	--export name=other,path=other,allow=cid:3 \
	--export name=users,path=users,allow=uid:0
case $uri in
nbd+vsock://1:[1-9]*/) ;;
*) die "listening on $uri" ;;
esac
! grep everybody log || die "it warns although all have lists"

# Only one is there for us; of the others there is not even the name.
[ "$(nbdinfo --size "${uri}vol")" = 67108864 ] || die "the size of vol"
nbdinfo --list "$uri" >list || die "nbdinfo --list"
grep -q '^export="vol"' list || die "vol is not listed"
! grep -q 'other\|users' list || die "more is listed than may be"
for name in other users nothing; do
	! nbdinfo --size "$uri$name" 2>err || die "$name is there for us"
	sed "s/$name/NAME/g" err >"err-$name"
done
cmp err-other err-nothing || die "denied is told from unknown"
cmp err-users err-nothing || die "denied is told from unknown"

dd if=/dev/urandom of=data bs=1M count=64 2>/dev/null
nbdcopy --flush data "${uri}vol" || die "nbdcopy to it"
nbdcopy "${uri}vol" back || die "nbdcopy from it"
cmp data back || die "what was copied is not the same"
end
cmp data disk || die "the file is not the same"
rm back other users

# On the loopback's id and a port of our choice; anybody may.
serve --vsock 1:4711 --read-only disk
[ "$uri" = nbd+vsock://1:4711/ ] || die "listening on $uri"
! grep everybody log || die "it warns of the loopback"
nbdinfo --json --no-content "$uri" | grep -q '"is_read_only": true' || die "nbdinfo"
! foliod --vsock 1:4711 --read-only disk 2>err || die "two on one port"
grep -q 'vsock cid 1 port 4711' err || die "the error: $(cat err)"
end

# One of ours is too many for one peer, which is known by its id.
serve --vsock 0 --max-connections-per-peer 1 --read-only disk
grep -q everybody log || die "no warning that all may"
! nbdcopy --threads=2 --connections=2 "$uri" null: 2>/dev/null ||
	die "two connections of one peer"
nbdcopy --connections=1 "$uri" null: || die "one connection of one peer"
end
EOF
no_io_errors
