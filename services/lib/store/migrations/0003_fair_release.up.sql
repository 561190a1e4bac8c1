-- A task that keeps its distance from an earlier try is out of the line until its time has come: without this a
-- release would read past all of them. Whoever releases clears it; not_before decides.
ALTER TABLE tasks ADD COLUMN delayed boolean NOT NULL DEFAULT false;

UPDATE tasks SET delayed = true WHERE state = 'waiting' AND not_before > now();

-- Groups of tasks that differ in nothing but their age: each is found by index, and in it the oldest.
DROP INDEX tasks_to_release;
CREATE INDEX tasks_to_release ON tasks (arch, memory_class, owner_id, priority, memory_mib, id)
    WHERE state = 'waiting' AND current_attempt IS NULL AND NOT delayed;
-- The smallest need of a route, and the oldest task of each need.
CREATE INDEX tasks_by_need ON tasks (arch, memory_class, memory_mib, id)
    WHERE state = 'waiting' AND current_attempt IS NULL AND NOT delayed;
CREATE INDEX tasks_delayed ON tasks (not_before) WHERE state = 'waiting' AND delayed;

-- How long the last tasks of a route took.
CREATE INDEX tasks_ended ON tasks (arch, memory_class, ended_at)
    WHERE state IN ('succeeded', 'failed') AND started_at IS NOT NULL;

-- A builder that is kept free for a large task; without a task it rests, so that small ones get their turn too. It
-- holds only as long as its task waits and its builder takes work.
CREATE TABLE reservations (
    builder_id uuid PRIMARY KEY REFERENCES builders (id) ON DELETE CASCADE,
    task_id    bigint UNIQUE REFERENCES tasks (id) ON DELETE SET NULL,
    memory_mib integer NOT NULL,
    made_at    timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz
);
