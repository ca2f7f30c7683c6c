#!/bin/sh
# Run by the image of PostgreSQL at its first start: a role and a database for each of $SERVICES.
set -eu
for SERVICE in $SERVICES; do
  export SERVICE PASSWORD="$SERVICE-$POSTGRES_PASSWORD"
  psql --no-psqlrc --quiet --username postgres --dbname postgres --file "${ROLE_SQL:-/role.sql}"
done
