#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The kernel's client over TLS, with a certificate of its own: a file system
# over one connection and over four; and without TLS it is refused.

. "$(dirname "$0")/guest.sh" || exit 99
requires openssl version

# make_cert server|client NAME: signed by the authority in $dir/pki.
make_cert()
{
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
		-keyout "$dir/pki/$1-key.pem" -out "$dir/request" \
		-subj "/CN=$2" &&
		openssl x509 -req -in "$dir/request" -days 2 \
			-CA "$dir/pki/ca-cert.pem" -CAkey "$dir/ca-key.pem" \
			-CAcreateserial -extfile "$dir/names" \
			-out "$dir/pki/$1-cert.pem"
}

mkdir "$dir/pki" "$share"
echo 'subjectAltName=DNS:host' >"$dir/names"
{
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
		-keyout "$dir/ca-key.pem" -out "$dir/pki/ca-cert.pem" \
		-subj /CN=authority -days 2 &&
		make_cert server host && make_cert client guest
} 2>"$dir/openssl" || fail "openssl: $(cat "$dir/openssl")"
cp "$dir"/pki/c*.pem "$share/"

truncate -s 256M "$dir/disk"
start_foliod --port 0 --tls require --tls-verify-peer \
	--tls-certificates "$dir/pki" vol="$dir/disk"
guest_run <<'EOF'
! /usr/bin/nbd-client -N $export host $port $dev >/dev/null 2>&1 ||
	die "attached without TLS"
! /usr/bin/nbd-client -N $export -enable-tls -tlshostname host \
	-cacertfile /share/ca-cert.pem host $port $dev >/dev/null 2>&1 ||
	die "attached without a certificate"

for number in 1 4 2; do
	attach $number -enable-tls -tlshostname host \
		-cacertfile /share/ca-cert.pem \
		-certfile /share/client-cert.pem -keyfile /share/client-key.pem
	[ $number -ne 1 ] || make_fs ext4
	mount_fs ext4
	[ $number -eq 1 ] || check_files tls 30
	rm -rf /mnt/1 /mnt/2 /share/tls-1 /share/tls-2
	start_files tls 300
	end_files
	umount /mnt
	fsck_fs ext4
	detach
done
EOF
no_io_errors
grep 'files checked' "$share/out"
stop_foliod
fsck_image ext4 "$dir/disk"
