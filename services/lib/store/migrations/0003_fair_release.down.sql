DROP TABLE reservations;
DROP INDEX tasks_ended, tasks_delayed, tasks_by_need, tasks_to_release;
ALTER TABLE tasks DROP COLUMN delayed;
CREATE INDEX tasks_to_release ON tasks (arch, memory_class, owner_id, priority, id)
    WHERE state = 'waiting' AND current_attempt IS NULL;
