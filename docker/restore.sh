#!/bin/sh
# Puts back what backup.sh saved:  docker/restore.sh /srv/volcal-backup/database-<time>.dump
#
# What is in the database now is lost; objects that the store has stay. Afterwards nothing is started: look first, then
# `docker compose up -d`.
# With DATABASE_URL in the environment it works without containers; stop gateway, workers, beat and tusd before.
set -eu

dump=${1:?"usage: docker/restore.sh FOLDER/database-<time>.dump"}
folder=$(cd "$(dirname "$dump")" && pwd)
dump=$folder/$(basename "$dump")
test -s "$dump" && test -d "$folder/objects" || { echo "error[BACKUP]: $dump with the folder objects beside it is not there" >&2; exit 2; }

if [ -n "${DATABASE_URL:-}" ]; then
    database=$(echo "$DATABASE_URL" | sed 's/^postgresql+[a-z0-9]*:/postgresql:/')
    sql() { psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --dbname="$database"; }
    load_database() { pg_restore --no-owner --single-transaction --dbname="$database"; }
    run() { volcal "$@"; }
    load_objects() { run objects load "$folder/objects"; }
else
    cd "$(dirname "$0")/.."
    docker compose stop nginx gateway worker beat tusd
    docker compose up -d --wait db minio
    sql() { docker compose exec -T db psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --username=volcal --dbname=volcal; }
    load_database() { docker compose exec -T db pg_restore --no-owner --single-transaction --username=volcal --dbname=volcal; }
    run() { docker compose run --rm --no-deps -T migrate "$@"; }
    load_objects() {
        docker compose run --rm --no-deps -T --user "$(id -u):$(id -g)" --volume "$folder/objects:/backup:ro" migrate objects load /backup
    }
fi

echo 'DROP SCHEMA public CASCADE; CREATE SCHEMA public;' | sql
load_database < "$dump"
run setup          # tables of this version, the bucket
load_objects
run tidy --close   # says what is missing; whoever sends to an upload that was not saved hears that it is gone
