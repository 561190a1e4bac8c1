//! Conditions of the partial indexes on unfinished tasks, each a macro named after its index.
//!
//! A statement uses an index by repeating its condition. Each condition ends in a marker that holds for every row, such as
//! `priority >= 0`, so that the planner can match this index alone: with statistics from a time when few tasks waited it
//! would otherwise prefer one that it takes to be short, and read the whole backlog. Migration 0008 creates the indexes;
//! a condition that differs from it turns its statement into a scan of the table.

/// Tasks that wait to be released, by route, priority, owner and id: finds the oldest task of an owner. Alias `t`.
macro_rules! tasks_in_line {
    () => {
        "t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.priority >= 0"
    };
}

/// The tasks of `tasks_in_line!`, by route, priority, owner and memory: finds the smallest task of an owner. Alias `t`.
macro_rules! tasks_in_line_by_need {
    () => {
        "t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.owner_id > 0"
    };
}

/// The tasks of `tasks_in_line!`, by route and memory: finds the smallest task of a route, and the next larger need. Alias
/// `t`.
macro_rules! tasks_by_need {
    () => {
        "t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.memory_mib > 0"
    };
}

/// Tasks that have not ended, by state and build. Alias `t`.
macro_rules! tasks_not_ended {
    () => {
        "t.state in ('waiting', 'queued', 'running') and t.build_id > 0"
    };
}

pub(crate) use {tasks_by_need, tasks_in_line, tasks_in_line_by_need, tasks_not_ended};
