-- What keeps builders from work, as they say: free space and floor of a spool disk that is short, images that their
-- engines lack.
ALTER TABLE builders
    ADD COLUMN disk_free_mib  integer,
    ADD COLUMN disk_floor_mib integer,
    ADD COLUMN missing_images text[] NOT NULL DEFAULT '{}',
    ADD CONSTRAINT builders_short_of_disk CHECK ((disk_free_mib IS NULL) = (disk_floor_mib IS NULL));

CREATE OR REPLACE VIEW ready_builders AS
SELECT id, name, archs, engine_id, memory_mib, sandboxes, disk_floor_mib, missing_images
FROM builders
WHERE last_seen_at > now() - interval '25 seconds'
    AND NOT stopping AND drained_at IS NULL AND set_aside_at IS NULL;

-- What an attempt waits for whose work is done.
ALTER TABLE attempts ADD COLUMN waits_for text;

-- A task whose chroot's image was missing where it was asked for is delayed until a builder that has the image has room.
ALTER TABLE tasks ADD COLUMN lacks_image boolean NOT NULL DEFAULT false;

DROP INDEX tasks_delayed;
CREATE INDEX tasks_delayed ON tasks (not_before) WHERE state = 'waiting' AND delayed AND NOT lacks_image;
CREATE INDEX tasks_lacking_image ON tasks (chroot, id) WHERE state = 'waiting' AND lacks_image;
