#!/usr/bin/env bash
# First start of an empty volume: one database, and one role that owns it and may nothing else.
set -euo pipefail
: "${MILLRACE_DB_PASSWORD:?the frontend role needs a password}"

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv password MILLRACE_DB_PASSWORD
-- The statement with the password stays out of the server's log, also when it fails.
SET log_min_error_statement = panic;
SET log_statement = 'none';
CREATE ROLE millrace_frontend LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
CREATE DATABASE millrace OWNER millrace_frontend;
REVOKE CONNECT, TEMPORARY ON DATABASE millrace, postgres, template1 FROM PUBLIC;
SQL
