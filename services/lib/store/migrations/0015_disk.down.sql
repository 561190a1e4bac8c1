ALTER TABLE builds DROP COLUMN disk_mib;
