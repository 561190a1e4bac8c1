//! Fair-share selection: priority class, then the owner with fewest tasks under way, then the oldest task. Pure; no IO.
//!
//! Waiting raises a task: after a while a background task counts as normal, a normal one as high. Age alone makes a task
//! count as high only while its owner has nothing under way: so no owner starves, and yet an aged backlog does not delay
//! what others submit.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::scheduler::window::Window;

/// The class of normal priority, as stored.
const NORMAL: i16 = 1;

/// A waiting task that fits its route's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) id: i64,
    pub(crate) memory_mib: i64,
    /// Its class of priority, raised by age.
    pub(crate) class: i16,
}

/// The tasks of one owner that wait in one route at one priority, as far as they were read.
#[derive(Debug)]
pub(crate) struct OwnerQueue {
    /// Index of its route's window.
    pub(crate) window: usize,
    pub(crate) owner_id: i64,
    /// The class of priority as submitted.
    pub(crate) priority: i16,
    /// Tasks that fit, oldest first.
    pub(crate) tasks: Vec<Candidate>,
    pub(crate) remainder: Remainder,
}

/// What waits in an owner's queue besides the tasks that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remainder {
    /// The queue was read to its end.
    Empty,
    /// Tasks that do not fit, or more than the window takes.
    OutOfReach,
    /// Possibly tasks that fit: the queue can be read further.
    Unread,
}

/// How many tasks an owner has on offer or running.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnerUsage {
    pub(crate) tasks: i64,
    /// As many as the owner may have.
    pub(crate) limit: i64,
}

impl OwnerUsage {
    /// An owner without tasks under way.
    pub(crate) fn none(limit: i64) -> Self {
        Self { tasks: 0, limit }
    }
}

/// What a selection decided.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Ids of the selected tasks, in the order of their release.
    pub(crate) tasks: Vec<i64>,
    /// Owners of these tasks.
    pub(crate) owners: HashSet<i64>,
    /// Indexes of queues that came up for another task after all that were read: reading them further may change the
    /// selection.
    pub(crate) exhausted: Vec<usize>,
    /// Whether waiting tasks remain.
    pub(crate) held_back: bool,
}

/// Selects tasks until the windows are full or no queue may go on.
pub(crate) fn select_fairly(
    windows: &[Window],
    queues: &[OwnerQueue],
    owners: &HashMap<i64, OwnerUsage>,
) -> Selection {
    let mut selector = Selector::new(windows, queues, owners);
    let mut heads: BinaryHeap<Head> = (0..queues.len()).filter_map(|q| selector.head(q)).collect();
    let (mut tasks, mut served, mut exhausted) = (Vec::new(), HashSet::new(), Vec::new());
    while let Some(best) = heads.pop() {
        let queue = best.queue;
        let current = selector.head(queue);
        if current.as_ref() != Some(&best) {
            // Its owner has been served since, or its window is full: it is ranked again.
            heads.extend(current);
            continue;
        }
        let Some(task) = selector.next_task(queue) else {
            exhausted.push(queue);
            continue;
        };
        if selector.take(queue, task) {
            tasks.push(task.id);
            served.insert(queues[queue].owner_id);
        }
        heads.extend(selector.head(queue));
    }
    Selection {
        tasks,
        owners: served,
        exhausted,
        held_back: selector.has_remaining(),
    }
}

/// The rank of a queue's next task; the greatest goes first. The order of the fields is the order of comparison.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    /// The class that counts: raised by age, bounded while the owner has work under way.
    class: i16,
    /// The owner's tasks under way with this one; fewer go first.
    owner_tasks: Reverse<i64>,
    /// The class as raised by age, without that bound.
    aged: i16,
    /// The task's id; the oldest goes first.
    id: Reverse<i64>,
    queue: usize,
}

struct Selector<'a> {
    queues: &'a [OwnerQueue],
    owners: HashMap<i64, OwnerUsage>,
    /// Tasks taken from each queue.
    taken: Vec<usize>,
    /// Tasks and MiB that each window has left.
    left: Vec<(i64, i64)>,
}

impl<'a> Selector<'a> {
    fn new(
        windows: &[Window],
        queues: &'a [OwnerQueue],
        owners: &HashMap<i64, OwnerUsage>,
    ) -> Self {
        Self {
            queues,
            owners: owners.clone(),
            taken: vec![0; queues.len()],
            left: windows.iter().map(|w| (w.size, w.room_mib)).collect(),
        }
    }

    /// The next task of a queue, among those that were read.
    fn next_task(&self, queue: usize) -> Option<Candidate> {
        self.queues[queue].tasks.get(self.taken[queue]).copied()
    }

    /// The rank of a queue's next task; none when the queue, its window or its owner's limit is exhausted.
    fn head(&self, queue: usize) -> Option<Head> {
        let OwnerQueue {
            window,
            owner_id,
            priority,
            tasks,
            remainder,
        } = &self.queues[queue];
        // A task that was not read yet is no older than the last one that was: it is ranked like that one.
        let unread = || {
            tasks
                .last()
                .filter(|_| *remainder == Remainder::Unread)
                .copied()
        };
        let task = self.next_task(queue).or_else(unread)?;
        let owner = self.owners.get(owner_id)?;
        if self.left[*window].0 == 0 || owner.tasks >= owner.limit {
            return None;
        }
        let class = if owner.tasks == 0 {
            task.class
        } else {
            task.class.min(NORMAL).max(*priority)
        };
        Some(Head {
            class,
            owner_tasks: Reverse(owner.tasks + 1),
            aged: task.class,
            id: Reverse(task.id),
            queue,
        })
    }

    /// Takes a task out of its window; false when the window has too little memory for it. That closes the window:
    /// smaller tasks must not overtake it.
    fn take(&mut self, queue: usize, task: Candidate) -> bool {
        let OwnerQueue {
            window, owner_id, ..
        } = self.queues[queue];
        let (size, room_mib) = &mut self.left[window];
        if *room_mib < task.memory_mib {
            *size = 0;
            return false;
        }
        *size -= 1;
        *room_mib -= task.memory_mib;
        self.taken[queue] += 1;
        if let Some(owner) = self.owners.get_mut(&owner_id) {
            owner.tasks += 1;
        }
        true
    }

    fn has_remaining(&self) -> bool {
        (0..self.queues.len()).any(|queue| {
            self.queues[queue].remainder != Remainder::Empty || self.next_task(queue).is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(size: i64) -> Window {
        Window {
            arch: "x86_64".to_owned(),
            memory_class: "2g".to_owned(),
            size,
            room_mib: 2048 * size,
            fit_mib: 2048,
        }
    }

    /// Tasks as id and class.
    fn queue(
        owner_id: i64,
        priority: i16,
        tasks: &[(i64, i16)],
        remainder: Remainder,
    ) -> OwnerQueue {
        let task = |&(id, class)| Candidate {
            id,
            memory_mib: 2048,
            class,
        };
        OwnerQueue {
            window: 0,
            owner_id,
            priority,
            tasks: tasks.iter().map(task).collect(),
            remainder,
        }
    }

    fn usage(tasks: &[i64]) -> HashMap<i64, OwnerUsage> {
        let of = |&tasks: &i64| OwnerUsage { tasks, limit: 4 };
        (1..).zip(tasks.iter().map(of)).collect()
    }

    fn selected(size: i64, queues: &[OwnerQueue], active: &[i64]) -> (Vec<i64>, bool) {
        let selection = select_fairly(&[window(size)], queues, &usage(active));
        (selection.tasks, selection.held_back)
    }

    #[test]
    fn owners_alternate_and_who_has_less_under_way_goes_first() {
        let queues = [
            queue(1, 1, &[(1, 1), (2, 1), (3, 1)], Remainder::Empty),
            queue(2, 1, &[(7, 1), (8, 1)], Remainder::Empty),
        ];
        assert_eq!(selected(4, &queues, &[0, 0]), (vec![1, 7, 2, 8], true));
        assert_eq!(selected(4, &queues, &[1, 0]), (vec![7, 1, 8, 2], true));
        assert_eq!(selected(9, &queues, &[0, 0]), (vec![1, 7, 2, 8, 3], false));
        assert_eq!(selected(9, &queues, &[3, 4]), (vec![1], true), "the limit");
    }

    #[test]
    fn the_higher_class_goes_first() {
        let queues = [
            queue(1, 0, &[(1, 0)], Remainder::Empty),
            queue(1, 1, &[(2, 1)], Remainder::Empty),
            queue(2, 2, &[(3, 2), (4, 2)], Remainder::Empty),
        ];
        assert_eq!(selected(9, &queues, &[0, 0]).0, [3, 4, 2, 1]);
    }

    #[test]
    fn an_old_backlog_counts_as_high_only_for_an_owner_without_any_work() {
        let old = queue(1, 1, &[(1, 2), (2, 2), (3, 2)], Remainder::Empty);
        let new = queue(2, 1, &[(9, 1)], Remainder::Empty);
        let high = queue(3, 2, &[(10, 2)], Remainder::Empty);
        let queues = [old, new, high];
        assert_eq!(selected(9, &queues, &[0, 0, 0]).0, [1, 10, 9, 2, 3]);
        assert_eq!(selected(9, &queues, &[1, 0, 0]).0, [10, 9, 1, 2, 3]);
    }

    #[test]
    fn background_that_has_waited_counts_as_normal() {
        let queues = [
            queue(1, 0, &[(1, 1), (2, 1)], Remainder::Empty),
            queue(2, 1, &[(7, 1), (8, 1)], Remainder::Empty),
        ];
        assert_eq!(selected(9, &queues, &[0, 0]).0, [1, 7, 2, 8]);
    }

    #[test]
    fn what_the_room_is_too_small_for_is_not_passed_over() {
        let mut large = queue(1, 1, &[(1, 1)], Remainder::Empty);
        large.tasks[0].memory_mib = 4097;
        let queues = [large, queue(2, 1, &[(2, 1)], Remainder::Empty)];
        assert_eq!(selected(2, &queues, &[0, 0]), (vec![], true));
    }

    #[test]
    fn a_queue_is_read_further_only_where_that_can_change_the_selection() {
        let queues = [
            queue(1, 1, &[(1, 1)], Remainder::Unread),
            queue(2, 1, &[(2, 1)], Remainder::Unread),
        ];
        assert_eq!(selected(2, &queues, &[0, 0]), (vec![1, 2], true));
        let exhausted = |size, queues: &[OwnerQueue]| {
            select_fairly(&[window(size)], queues, &usage(&[0, 0])).exhausted
        };
        assert_eq!(exhausted(2, &queues), [0; 0]);
        assert_eq!(exhausted(3, &queues), [0, 1]);
        let high = [
            queue(1, 2, &[(5, 2)], Remainder::Unread),
            queue(2, 1, &[(2, 1)], Remainder::Unread),
        ];
        assert_eq!(exhausted(1, &high), [0; 0]);
        assert_eq!(exhausted(2, &high)[0], 0);
    }
}
