//! Whose turn it is. The higher class of priority goes first, then the owner with the fewest tasks under way, then the
//! oldest task.
//!
//! Waiting raises a task: after a while a background one counts as a normal one. As a high one something counts by its
//! age only while its owner has nothing under way: nobody starves then, and yet a backlog that has grown old does not
//! hold back what others submit.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::scheduler::window::Window;

const NORMAL: i16 = 1;

/// A waiting task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) id: i64,
    pub(crate) memory_mib: i64,
    /// Its class of priority with what its age adds.
    pub(crate) class: i16,
}

/// What one owner has waiting in one route, in one class of priority; as much of it as was read.
#[derive(Debug)]
pub(crate) struct Line {
    /// The window of its route.
    pub(crate) window: usize,
    pub(crate) owner_id: i64,
    /// The class of priority as submitted.
    pub(crate) priority: i16,
    /// Tasks that fit, oldest first.
    pub(crate) tasks: Vec<Waiting>,
    pub(crate) rest: Rest,
}

/// What waits in a line besides the tasks that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Nothing,
    /// What does not fit, or is more than can be released.
    OutOfReach,
    Unread,
}

/// What an owner has on offer or running, and may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnderWay {
    pub(crate) tasks: i64,
    pub(crate) most: i64,
}

/// What was chosen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Tasks, first come first.
    pub(crate) tasks: Vec<i64>,
    /// Their owners.
    pub(crate) owners: HashSet<i64>,
    /// Lines, by their index, whose turn it was once more than is known of them: read further, they may change the
    /// choice.
    pub(crate) short: Vec<usize>,
    /// Whether something waits on.
    pub(crate) held_back: bool,
}

/// Fills the windows.
pub(crate) fn choose(
    windows: &[Window],
    lines: &[Line],
    owners: &HashMap<i64, UnderWay>,
) -> Choice {
    let mut chooser = Chooser::new(windows, lines, owners);
    let mut bids: BinaryHeap<Bid> = (0..lines.len()).filter_map(|l| chooser.bid(l)).collect();
    let (mut tasks, mut served, mut short) = (Vec::new(), HashSet::new(), Vec::new());
    while let Some(best) = bids.pop() {
        let line = best.line;
        let now = chooser.bid(line);
        if now.as_ref() != Some(&best) {
            // Its owner was given something since, or its window is full.
            bids.extend(now);
            continue;
        }
        let Some(task) = chooser.next(line) else {
            short.push(line);
            continue;
        };
        if chooser.take(line, task) {
            tasks.push(task.id);
            served.insert(lines[line].owner_id);
        }
        bids.extend(chooser.bid(line));
    }
    Choice {
        tasks,
        owners: served,
        short,
        held_back: chooser.is_something_left(),
    }
}

/// What a line's next task has to say for itself; the greatest goes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bid {
    class: i16,
    turn: Reverse<i64>,
    /// The class with all that the task's age adds.
    aged: i16,
    id: Reverse<i64>,
    line: usize,
}

struct Chooser<'a> {
    lines: &'a [Line],
    owners: HashMap<i64, UnderWay>,
    /// Of each line, how many were taken.
    taken: Vec<usize>,
    /// Of each window, the tasks and the MiB that are left.
    left: Vec<(i64, i64)>,
}

impl<'a> Chooser<'a> {
    fn new(windows: &[Window], lines: &'a [Line], owners: &HashMap<i64, UnderWay>) -> Self {
        Self {
            lines,
            owners: owners.clone(),
            taken: vec![0; lines.len()],
            left: windows.iter().map(|w| (w.size, w.room_mib)).collect(),
        }
    }

    /// The next task of a line that is known.
    fn next(&self, line: usize) -> Option<Waiting> {
        self.lines[line].tasks.get(self.taken[line]).copied()
    }

    /// None when the line, its window or its owner's limit is exhausted.
    fn bid(&self, line: usize) -> Option<Bid> {
        let Line {
            window,
            owner_id,
            priority,
            tasks,
            rest,
        } = &self.lines[line];
        // What was not read yet is no older than what was.
        let unread = || tasks.last().filter(|_| *rest == Rest::Unread).copied();
        let task = self.next(line).or_else(unread)?;
        let owner = self.owners.get(owner_id)?;
        if self.left[*window].0 == 0 || owner.tasks >= owner.most {
            return None;
        }
        let class = if owner.tasks == 0 {
            task.class
        } else {
            task.class.min(NORMAL).max(*priority)
        };
        Some(Bid {
            class,
            turn: Reverse(owner.tasks + 1),
            aged: task.class,
            id: Reverse(task.id),
            line,
        })
    }

    /// A task that the window has no memory for closes it: it is not passed over by what is smaller.
    fn take(&mut self, line: usize, task: Waiting) -> bool {
        let Line {
            window, owner_id, ..
        } = self.lines[line];
        let (size, room_mib) = &mut self.left[window];
        if *room_mib < task.memory_mib {
            *size = 0;
            return false;
        }
        *size -= 1;
        *room_mib -= task.memory_mib;
        self.taken[line] += 1;
        if let Some(owner) = self.owners.get_mut(&owner_id) {
            owner.tasks += 1;
        }
        true
    }

    fn is_something_left(&self) -> bool {
        (0..self.lines.len())
            .any(|line| self.lines[line].rest != Rest::Nothing || self.next(line).is_some())
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
    fn line(owner_id: i64, priority: i16, tasks: &[(i64, i16)], rest: Rest) -> Line {
        let task = |&(id, class)| Waiting {
            id,
            memory_mib: 2048,
            class,
        };
        Line {
            window: 0,
            owner_id,
            priority,
            tasks: tasks.iter().map(task).collect(),
            rest,
        }
    }

    fn under_way(tasks: &[i64]) -> HashMap<i64, UnderWay> {
        let of = |&tasks: &i64| UnderWay { tasks, most: 4 };
        (1..).zip(tasks.iter().map(of)).collect()
    }

    fn chosen(size: i64, lines: &[Line], active: &[i64]) -> (Vec<i64>, bool) {
        let choice = choose(&[window(size)], lines, &under_way(active));
        (choice.tasks, choice.held_back)
    }

    #[test]
    fn owners_alternate_and_who_has_less_under_way_goes_first() {
        let lines = [
            line(1, 1, &[(1, 1), (2, 1), (3, 1)], Rest::Nothing),
            line(2, 1, &[(7, 1), (8, 1)], Rest::Nothing),
        ];
        assert_eq!(chosen(4, &lines, &[0, 0]), (vec![1, 7, 2, 8], true));
        assert_eq!(chosen(4, &lines, &[1, 0]), (vec![7, 1, 8, 2], true));
        assert_eq!(chosen(9, &lines, &[0, 0]), (vec![1, 7, 2, 8, 3], false));
        assert_eq!(chosen(9, &lines, &[3, 4]), (vec![1], true), "the limit");
    }

    #[test]
    fn the_higher_class_goes_first() {
        let lines = [
            line(1, 0, &[(1, 0)], Rest::Nothing),
            line(1, 1, &[(2, 1)], Rest::Nothing),
            line(2, 2, &[(3, 2), (4, 2)], Rest::Nothing),
        ];
        assert_eq!(chosen(9, &lines, &[0, 0]).0, [3, 4, 2, 1]);
    }

    #[test]
    fn an_old_backlog_counts_as_high_only_for_an_owner_without_any_work() {
        let old = line(1, 1, &[(1, 2), (2, 2), (3, 2)], Rest::Nothing);
        let new = line(2, 1, &[(9, 1)], Rest::Nothing);
        let high = line(3, 2, &[(10, 2)], Rest::Nothing);
        let lines = [old, new, high];
        assert_eq!(chosen(9, &lines, &[0, 0, 0]).0, [1, 10, 9, 2, 3]);
        assert_eq!(chosen(9, &lines, &[1, 0, 0]).0, [10, 9, 1, 2, 3]);
    }

    #[test]
    fn background_that_has_waited_counts_as_normal() {
        let lines = [
            line(1, 0, &[(1, 1), (2, 1)], Rest::Nothing),
            line(2, 1, &[(7, 1), (8, 1)], Rest::Nothing),
        ];
        assert_eq!(chosen(9, &lines, &[0, 0]).0, [1, 7, 2, 8]);
    }

    #[test]
    fn what_the_room_is_too_small_for_is_not_passed_over() {
        let mut large = line(1, 1, &[(1, 1)], Rest::Nothing);
        large.tasks[0].memory_mib = 4097;
        let lines = [large, line(2, 1, &[(2, 1)], Rest::Nothing)];
        assert_eq!(chosen(2, &lines, &[0, 0]), (vec![], true));
    }

    #[test]
    fn a_line_is_read_further_only_where_that_can_change_the_choice() {
        let lines = [
            line(1, 1, &[(1, 1)], Rest::Unread),
            line(2, 1, &[(2, 1)], Rest::Unread),
        ];
        assert_eq!(chosen(2, &lines, &[0, 0]), (vec![1, 2], true));
        let short =
            |size, lines: &[Line]| choose(&[window(size)], lines, &under_way(&[0, 0])).short;
        assert_eq!(short(2, &lines), [0; 0]);
        assert_eq!(short(3, &lines), [0, 1]);
        let high = [
            line(1, 2, &[(5, 2)], Rest::Unread),
            line(2, 1, &[(2, 1)], Rest::Unread),
        ];
        assert_eq!(short(1, &high), [0; 0]);
        assert_eq!(short(2, &high)[0], 0);
    }
}
