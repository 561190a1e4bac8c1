DROP INDEX tasks_lacking_image;
DROP INDEX tasks_delayed;
ALTER TABLE tasks DROP COLUMN lacks_image;
CREATE INDEX tasks_delayed ON tasks (not_before) WHERE state = 'waiting' AND delayed;
ALTER TABLE attempts DROP COLUMN waits_for;
ALTER TABLE builders
    DROP COLUMN disk_free_mib,
    DROP COLUMN disk_floor_mib,
    DROP COLUMN missing_images;
