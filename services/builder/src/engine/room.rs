//! Room: the memory and the sandboxes that this builder offers, and what of them is taken. Room is reserved before
//! an order is claimed and given back once its sandbox is gone and its results are safe on the spool. A room that is
//! closed has nothing free, whatever is left of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_domain::MemoryClass;
use tokio::sync::watch;

/// What is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeRoom {
    /// Memory in MiB.
    pub mib: u32,
    /// Sandboxes.
    pub sandboxes: u32,
    /// The frontend wants room for a large task: nothing smaller than this fits, in MiB; 0 in the ordinary case.
    pub min_task_mib: u32,
}

impl FreeRoom {
    /// Whether some order of this class would fit: a class holds orders that need more than its lower end.
    pub fn may_fit(self, class: &MemoryClass) -> bool {
        let is_large_enough = class.up_to_mib.is_none_or(|end| end >= self.min_task_mib);
        self.sandboxes > 0
            && class.above_mib < self.mib
            && is_large_enough
            && self.min_task_mib <= self.mib
    }
}

/// Why a builder takes nothing, although it may have room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClosedReason {
    /// The frontend wants it to take nothing: it was drained, or set aside.
    Drained,
    /// Its spool's disk is short of space.
    DiskShort,
}

#[derive(Debug)]
struct Inner {
    free: FreeRoom,
    closed: BTreeSet<ClosedReason>,
}

/// The room of one builder. Clones share it.
#[derive(Debug, Clone)]
pub struct Room {
    sandboxes: u32,
    inner: Arc<Mutex<Inner>>,
    changed: Arc<watch::Sender<()>>,
}

impl Room {
    /// A room in which everything is free.
    pub fn new(mib: u32, sandboxes: u32) -> Self {
        Self {
            sandboxes,
            inner: Arc::new(Mutex::new(Inner {
                free: FreeRoom {
                    mib,
                    sandboxes,
                    min_task_mib: 0,
                },
                closed: BTreeSet::new(),
            })),
            changed: Arc::new(watch::Sender::new(())),
        }
    }

    /// What is free now; nothing while the room is closed.
    pub fn free(&self) -> FreeRoom {
        let inner = self.lock();
        if inner.closed.is_empty() {
            inner.free
        } else {
            FreeRoom {
                mib: 0,
                sandboxes: 0,
                ..inner.free
            }
        }
    }

    /// Whether nothing is taken, nor an order being asked for.
    pub fn is_idle(&self) -> bool {
        self.lock().free.sandboxes == self.sandboxes
    }

    /// Takes nothing more until every reason to be closed is gone.
    pub fn close(&self, reason: ClosedReason) {
        if self.lock().closed.insert(reason) {
            self.changed.send_replace(());
        }
    }

    /// A reason to be closed is gone.
    pub fn open(&self, reason: ClosedReason) {
        if self.lock().closed.remove(&reason) {
            self.changed.send_replace(());
        }
    }

    /// Tells when room was given back, or the room was opened or closed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes nothing that needs less than this, in MiB, until something that needs as much was taken; none: takes all.
    pub fn set_min_task(&self, mib: Option<u32>) {
        let min_task_mib = mib.unwrap_or(0);
        {
            let free = &mut self.lock().free;
            if free.min_task_mib == min_task_mib {
                return;
            }
            free.min_task_mib = min_task_mib;
        }
        self.changed.send_replace(());
    }

    /// Takes one sandbox with its memory; none when it does not fit.
    pub fn reserve(&self, mib: u32) -> Option<Reservation> {
        let mut inner = self.lock();
        let is_open = inner.closed.is_empty();
        let free = &mut inner.free;
        if !is_open || free.sandboxes == 0 || free.mib < mib || mib < free.min_task_mib {
            return None;
        }
        free.sandboxes -= 1;
        free.mib -= mib;
        // What it was kept free for has come; the frontend says so if it is to go on.
        free.min_task_mib = 0;
        Some(Reservation {
            room: self.clone(),
            mib,
        })
    }

    fn give_back(&self, mib: u32) {
        {
            let free = &mut self.lock().free;
            free.sandboxes += 1;
            free.mib += mib;
        }
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Numbers that are always written together: a panic elsewhere cannot leave them torn.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One sandbox's room; dropping it gives it back.
#[derive(Debug)]
#[must_use = "dropping a reservation gives the room back at once"]
pub struct Reservation {
    room: Room,
    mib: u32,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.room.give_back(self.mib);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_domain::MemoryClasses;

    #[test]
    fn room_is_taken_and_given_back() {
        let room = Room::new(4096, 2);
        let mut changes = room.changes();
        changes.mark_unchanged();
        let first = room.reserve(3000).unwrap();
        assert!(room.reserve(1097).is_none(), "too little memory");
        let second = room.reserve(1096).unwrap();
        assert_eq!(
            room.free(),
            FreeRoom {
                mib: 0,
                sandboxes: 0,
                min_task_mib: 0,
            }
        );
        assert!(room.reserve(0).is_none(), "no sandbox left");
        assert!(!changes.has_changed().unwrap());
        drop(first);
        assert!(!room.is_idle());
        assert!(changes.has_changed().unwrap());
        drop(second);
        assert!(room.is_idle());
        assert_eq!(
            room.free(),
            FreeRoom {
                mib: 4096,
                sandboxes: 2,
                min_task_mib: 0,
            }
        );
    }

    #[test]
    fn a_room_kept_free_takes_nothing_smaller_until_the_large_one_came() {
        let classes = MemoryClasses::default();
        let open = |room: &Room| -> Vec<String> {
            let fits = classes.all().iter().filter(|c| room.free().may_fit(c));
            fits.map(|class| class.name.clone()).collect()
        };
        let room = Room::new(8192, 4);
        let small = room.reserve(2048).unwrap();
        let changes = room.changes();
        room.set_min_task(Some(7000));
        assert!(changes.has_changed().unwrap(), "the intake looks again");
        assert!(open(&room).is_empty(), "the room for it is not there yet");
        assert!(room.reserve(2048).is_none());
        drop(small);
        assert_eq!(open(&room), ["8g"]);
        assert!(room.reserve(6999).is_none());
        let large = room.reserve(7000).unwrap();
        let small = room.reserve(1000).unwrap();
        drop((large, small));
        room.set_min_task(Some(7000));
        room.set_min_task(None);
        assert_eq!(open(&room), ["2g", "4g", "8g"]);
    }

    #[test]
    fn a_closed_room_has_nothing_free_and_keeps_what_it_lent() {
        let room = Room::new(4096, 2);
        let lent = room.reserve(1024).unwrap();
        let mut changes = room.changes();
        changes.mark_unchanged();
        room.close(ClosedReason::DiskShort);
        assert!(changes.has_changed().unwrap(), "the intake looks again");
        assert_eq!((room.free().mib, room.free().sandboxes), (0, 0));
        assert!(room.reserve(1).is_none() && !room.is_idle());
        room.close(ClosedReason::Drained);
        room.open(ClosedReason::Drained);
        assert_eq!(room.free().mib, 0, "one reason is left");
        drop(lent);
        changes.mark_unchanged();
        room.open(ClosedReason::DiskShort);
        assert!(changes.has_changed().unwrap());
        assert_eq!((room.free().mib, room.free().sandboxes), (4096, 2));
    }

    #[test]
    fn a_class_may_fit_while_the_room_exceeds_its_lower_end() {
        let classes = MemoryClasses::default();
        let free = FreeRoom {
            mib: 4096,
            sandboxes: 1,
            min_task_mib: 0,
        };
        let fitting: Vec<_> = classes
            .all()
            .iter()
            .filter(|class| free.may_fit(class))
            .map(|class| class.name.as_str())
            .collect();
        assert_eq!(fitting, ["2g", "4g"]);
        let full = FreeRoom {
            sandboxes: 0,
            ..free
        };
        assert!(!full.may_fit(&classes.all()[0]));
    }
}
