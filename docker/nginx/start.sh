#!/bin/sh
# Starts nginx with the template filled in, and with a certificate of its own if the operator gave none.
set -eu

tls=/etc/volcal-tls
if [ ! -e "$tls/fullchain.pem" ]; then
    tls=/tmp/tls
    mkdir -p "$tls"
    case "$PUBLIC_HOST" in
        *[!0-9.]*) name="DNS:$PUBLIC_HOST" ;;
        *) name="IP:$PUBLIC_HOST" ;;
    esac
    openssl req -x509 -newkey rsa:2048 -nodes -days 825 -subj "/CN=$PUBLIC_HOST" -addext "subjectAltName=$name" \
        -keyout "$tls/privkey.pem" -out "$tls/fullchain.pem" 2>/dev/null
    echo "no certificate in TLS_DIR: made one for $PUBLIC_HOST, which browsers will warn of"
elif [ ! -r "$tls/privkey.pem" ]; then
    echo "error[TLS]: $tls/privkey.pem is missing, or not readable by uid $(id -u): see docker/nginx/tls/README.md" >&2
    exit 2
fi

# Containers come back with other addresses: nginx asks the engine's name server anew.
RESOLVER=$(awk '/^nameserver/ { print ($2 ~ /:/) ? "[" $2 "]" : $2; exit }' /etc/resolv.conf)
TLS_DIR=$tls TEMP=/tmp
HTTP=8000 HTTPS=8443 S3=9000 S3_TLS=9443
export RESOLVER TLS_DIR TEMP HTTP HTTPS S3 S3_TLS

# Only these names: nginx has variables of its own.
names=$(sed -n 's/^#   \([A-Z][A-Z0-9_, ]*\)  .*/\1/p' /etc/volcal/nginx.conf.template | tr ', ' '\n\n' | sed '/^$/d; s/.*/${&}/')
envsubst "$names" < /etc/volcal/nginx.conf.template > /tmp/nginx.conf
exec nginx -c /tmp/nginx.conf
