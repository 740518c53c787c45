#!/bin/sh
# Saves the database and the objects of a running installation:  docker/backup.sh /srv/volcal-backup
#
# Makes FOLDER/database-<time>.dump, and copies to FOLDER/objects what is not there yet. The database comes first: each
# row of the dump then finds its objects. An object never changes, so all dumps share one folder of them.
# With DATABASE_URL in the environment it works without containers, with the pg_dump and volcal of this machine.
set -eu

folder=${1:?"usage: docker/backup.sh FOLDER"}
mkdir -p "$folder/objects"
folder=$(cd "$folder" && pwd)
dump=$folder/database-$(date -u +%Y%m%dT%H%M%SZ).dump

if [ -n "${DATABASE_URL:-}" ]; then
    save_database() { pg_dump --format=custom --no-owner --dbname="$(echo "$DATABASE_URL" | sed 's/^postgresql+[a-z0-9]*:/postgresql:/')"; }
    save_objects() { volcal objects save "$folder/objects"; }
else
    cd "$(dirname "$0")/.."
    save_database() { docker compose exec -T db pg_dump --format=custom --no-owner --username=volcal --dbname=volcal; }
    save_objects() {
        docker compose run --rm --no-deps -T --user "$(id -u):$(id -g)" --volume "$folder/objects:/backup" migrate objects save /backup
    }
fi

trap 'rm -f "$dump.part"' EXIT
save_database > "$dump.part"
save_objects
mv "$dump.part" "$dump"  # a dump without .part has all of its objects
echo "$dump"
