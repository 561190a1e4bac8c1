UPDATE tasks SET held = NULL, delayed = not_before > now() WHERE held = 'import';
ALTER TABLE builds DROP COLUMN imported_at;
DROP INDEX projects_as_shown, accounts_as_shown;
ALTER TABLE projects DROP COLUMN legacy_id;
ALTER TABLE accounts DROP COLUMN legacy_id;
