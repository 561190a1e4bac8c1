-- A project may have a task released once more, with a larger limit, after it hit one.
ALTER TABLE projects ADD COLUMN auto_raise boolean NOT NULL DEFAULT false;

-- The limit that the task was raised to: name, value and unit. Null as long as it has its build's limits.
ALTER TABLE tasks ADD COLUMN raised_limit jsonb;

-- What an attempt was given; null where that was not noted, or is the builder's own setting.
ALTER TABLE attempts
    ADD COLUMN timeout_seconds integer,
    ADD COLUMN disk_mib integer;
