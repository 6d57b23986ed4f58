GRANT USAGE ON SCHEMA steadfast TO app;
GRANT SELECT, INSERT, UPDATE, DELETE ON steadfast.sessions, steadfast.sessions_principals,
    steadfast.sessions_changes, steadfast.sessions_listeners, steadfast.sessions_endings,
    steadfast.sessions_keepers TO app;
GRANT SELECT ON steadfast.sessions_migrations TO app;
