DROP INDEX tasks_in_line_by_need, tasks_in_line;
CREATE INDEX tasks_to_release ON tasks (arch, memory_class, owner_id, priority, memory_mib, id)
    WHERE state = 'waiting' AND current_attempt IS NULL AND NOT delayed;
