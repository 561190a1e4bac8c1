-- Disk space that a build asks for, in MiB; null where builders give what they give by themselves.
ALTER TABLE builds ADD COLUMN disk_mib integer;
