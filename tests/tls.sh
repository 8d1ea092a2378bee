# shellcheck shell=bash disable=SC2154
# SPDX-License-Identifier: BSD-3-Clause
#
# tls.sh - certificates for tests, made as they run; beside functions.sh.

# make_ca DIR NAME
make_ca()
{
	mkdir -p "$1"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
		-keyout "$1/ca-key.pem" -out "$1/ca-cert.pem" \
		-subj "/CN=$2" -days 2 2>"$dir/openssl" ||
		fail "openssl req: $(cat "$dir/openssl")"
}

# make_cert DIR CA_DIR server|client SUBJECT [NAMES]: into DIR, with the CA's
# own.  SUBJECT is a common name, or as openssl's -subj has it.
make_cert()
{
	local subject=$4

	[ "${subject#/}" != "$subject" ] || subject=/CN=$subject
	mkdir -p "$1"
	printf 'subjectAltName=%s\n' "${5:-DNS:localhost,IP:127.0.0.1}" \
		>"$dir/ext"
	{
		openssl req -utf8 -newkey ec \
			-pkeyopt ec_paramgen_curve:P-256 \
			-nodes -keyout "$1/$3-key.pem" -out "$dir/csr" \
			-subj "$subject" &&
		openssl x509 -req -in "$dir/csr" -CA "$2/ca-cert.pem" \
			-CAkey "$2/ca-key.pem" -CAcreateserial -days 2 \
			-extfile "$dir/ext" -out "$1/$3-cert.pem"
	} 2>"$dir/openssl" || fail "openssl: $(cat "$dir/openssl")"
	[ "$1" -ef "$2" ] || cp "$2/ca-cert.pem" "$1/"
}
