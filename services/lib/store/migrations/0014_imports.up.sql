-- Numbers under which pollers of an older site know accounts and projects, where they differ from ours. No two share one.
ALTER TABLE accounts ADD COLUMN legacy_id bigint;
ALTER TABLE projects ADD COLUMN legacy_id bigint;
CREATE UNIQUE INDEX accounts_as_shown ON accounts (coalesce(legacy_id, id));
CREATE UNIQUE INDEX projects_as_shown ON projects (coalesce(legacy_id, id));

-- When a build came from another site.
ALTER TABLE builds ADD COLUMN imported_at timestamptz;
