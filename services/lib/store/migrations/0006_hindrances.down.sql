DROP INDEX tasks_lacking_image;
DROP INDEX tasks_delayed;
ALTER TABLE tasks DROP COLUMN lacks_image;
CREATE INDEX tasks_delayed ON tasks (not_before) WHERE state = 'waiting' AND delayed;
ALTER TABLE attempts DROP COLUMN waits_for;
DROP VIEW ready_builders;
CREATE VIEW ready_builders AS
SELECT id, name, archs, engine_id, memory_mib, sandboxes
FROM builders
WHERE last_seen_at > now() - interval '25 seconds'
    AND NOT stopping AND drained_at IS NULL AND set_aside_at IS NULL;
ALTER TABLE builders
    DROP COLUMN disk_free_mib,
    DROP COLUMN disk_floor_mib,
    DROP COLUMN missing_images;
