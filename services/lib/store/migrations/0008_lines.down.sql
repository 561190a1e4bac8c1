DROP INDEX tasks_not_ended, tasks_by_need, tasks_in_line_by_need, tasks_in_line;
CREATE INDEX tasks_to_release ON tasks (arch, memory_class, owner_id, priority, memory_mib, id)
    WHERE state = 'waiting' AND current_attempt IS NULL AND NOT delayed;
CREATE INDEX tasks_by_need ON tasks (arch, memory_class, memory_mib, id)
    WHERE state = 'waiting' AND current_attempt IS NULL AND NOT delayed;
CREATE INDEX tasks_not_ended ON tasks (state, build_id) WHERE state IN ('waiting', 'queued', 'running');
