-- A line: what one owner has waiting in one route, in one class of priority. A release walks from line to line, in each of
-- them finds the oldest task, and where that does not fit the smallest, by index: it never reads a line through.
--
-- Each index has a condition of its own that holds for every row, and only the statements meant for it repeat it. So the
-- planner cannot take another one, which it believes to be short when few tasks waited at the last ANALYZE, and read the
-- backlog.
DROP INDEX tasks_to_release, tasks_by_need, tasks_not_ended;
CREATE INDEX tasks_in_line ON tasks (arch, memory_class, priority, owner_id, id)
    WHERE state = 'waiting' AND current_attempt IS NULL AND NOT delayed AND priority >= 0;
CREATE INDEX tasks_in_line_by_need ON tasks (arch, memory_class, priority, owner_id, memory_mib, id)
    WHERE state = 'waiting' AND current_attempt IS NULL AND NOT delayed AND owner_id > 0;
CREATE INDEX tasks_by_need ON tasks (arch, memory_class, memory_mib, id)
    WHERE state = 'waiting' AND current_attempt IS NULL AND NOT delayed AND memory_mib > 0;
CREATE INDEX tasks_not_ended ON tasks (state, build_id)
    WHERE state IN ('waiting', 'queued', 'running') AND build_id > 0;
