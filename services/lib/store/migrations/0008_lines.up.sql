-- A line: what one owner has waiting in one route, in one class of priority. A release walks from line to line, in each of
-- them finds the oldest task, and where that does not fit the smallest, by index: it never reads a line through.
DROP INDEX tasks_to_release;
CREATE INDEX tasks_in_line ON tasks (arch, memory_class, priority, owner_id, id)
    WHERE state = 'waiting' AND current_attempt IS NULL AND NOT delayed;
CREATE INDEX tasks_in_line_by_need ON tasks (arch, memory_class, priority, owner_id, memory_mib, id)
    WHERE state = 'waiting' AND current_attempt IS NULL AND NOT delayed;
