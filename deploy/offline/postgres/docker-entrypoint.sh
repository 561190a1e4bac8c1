#!/usr/bin/env bash
# Creates the cluster on an empty volume as the official image does (POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_INITDB_ARGS,
# /docker-entrypoint-initdb.d), then becomes the server.
set -euo pipefail

if [[ ${1:-postgres} == postgres && ! -s $PGDATA/PG_VERSION ]]; then
    : "${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD for the first start}"
    export PGUSER=${POSTGRES_USER:-postgres} PGPASSWORD=$POSTGRES_PASSWORD
    # shellcheck disable=SC2086 # several arguments, as in the official image
    initdb --username="$PGUSER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") ${POSTGRES_INITDB_ARGS-}
    printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
    # Without TCP, so that nobody takes the half-made cluster for the finished one.
    pg_ctl --options="-c listen_addresses=''" --wait start
    export POSTGRES_USER=$PGUSER POSTGRES_DB=${POSTGRES_DB:-$PGUSER}
    if [[ $POSTGRES_DB != postgres ]]; then
        createdb --maintenance-db=postgres "$POSTGRES_DB"
    fi
    for script in /docker-entrypoint-initdb.d/*; do
        case $script in
        *.sh) bash "$script" ;;
        *.sql) psql --no-psqlrc --set ON_ERROR_STOP=1 --dbname "$POSTGRES_DB" --file "$script" ;;
        esac
    done
    pg_ctl --mode=fast --wait stop
    unset PGUSER PGPASSWORD
fi
[[ ${1:-postgres} != postgres ]] || set -- postgres -c listen_addresses='*' "${@:2}"
exec "$@"
