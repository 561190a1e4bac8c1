ALTER TABLE attempts DROP COLUMN timeout_seconds, DROP COLUMN disk_mib;
ALTER TABLE tasks DROP COLUMN raised_limit;
ALTER TABLE projects DROP COLUMN auto_raise;
