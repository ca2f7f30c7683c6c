-- For psql: a role that may log in, and a database of its own that no other role can open.
-- SERVICE and PASSWORD come from the environment. Run again, it sets the password.
\set ON_ERROR_STOP on
\getenv service SERVICE
\getenv password PASSWORD

SELECT format('CREATE ROLE %I LOGIN', :'service')
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'service') \gexec
ALTER ROLE :"service" PASSWORD :'password';

-- Texts sort by their bytes, as in SQLite.
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING ''UTF8''', :'service', :'service')
    || ' LC_COLLATE ''C'' LC_CTYPE ''C'''
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'service') \gexec
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;
