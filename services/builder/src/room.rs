//! Room: the memory and the sandboxes that this builder offers, and what of them is taken. Room is reserved before
//! an order is claimed and given back once its sandbox is gone and its results are safe on the spool.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_domain::MemoryClass;
use tokio::sync::watch;

/// What is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// Memory in MiB.
    pub mib: u32,
    /// Sandboxes.
    pub sandboxes: u32,
}

impl Free {
    /// Whether some order of this class would fit: a class holds orders that need more than its lower end.
    pub fn may_fit(self, class: &MemoryClass) -> bool {
        self.sandboxes > 0 && class.above_mib < self.mib
    }
}

/// The room of one builder. Clones share it.
#[derive(Debug, Clone)]
pub struct Room {
    free: Arc<Mutex<Free>>,
    changed: Arc<watch::Sender<()>>,
}

impl Room {
    /// A room in which everything is free.
    pub fn new(mib: u32, sandboxes: u32) -> Self {
        Self {
            free: Arc::new(Mutex::new(Free { mib, sandboxes })),
            changed: Arc::new(watch::Sender::new(())),
        }
    }

    /// What is free now.
    pub fn free(&self) -> Free {
        *self.lock()
    }

    /// Tells when room was given back.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes one sandbox with its memory; none when it does not fit.
    pub fn reserve(&self, mib: u32) -> Option<Reservation> {
        let mut free = self.lock();
        if free.sandboxes == 0 || free.mib < mib {
            return None;
        }
        free.sandboxes -= 1;
        free.mib -= mib;
        Some(Reservation {
            room: self.clone(),
            mib,
        })
    }

    fn give_back(&self, mib: u32) {
        {
            let mut free = self.lock();
            free.sandboxes += 1;
            free.mib += mib;
        }
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        // Two numbers that are always written together: a panic elsewhere cannot leave them torn.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
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
            Free {
                mib: 0,
                sandboxes: 0
            }
        );
        assert!(room.reserve(0).is_none(), "no sandbox left");
        assert!(!changes.has_changed().unwrap());
        drop(first);
        assert!(changes.has_changed().unwrap());
        drop(second);
        assert_eq!(
            room.free(),
            Free {
                mib: 4096,
                sandboxes: 2
            }
        );
    }

    #[test]
    fn a_class_may_fit_while_the_room_exceeds_its_lower_end() {
        let classes = MemoryClasses::default();
        let free = Free {
            mib: 4096,
            sandboxes: 1,
        };
        let fitting: Vec<_> = classes
            .all()
            .iter()
            .filter(|class| free.may_fit(class))
            .map(|class| class.name.as_str())
            .collect();
        assert_eq!(fitting, ["2g", "4g"]);
        let full = Free {
            mib: 4096,
            sandboxes: 0,
        };
        assert!(!full.may_fit(&classes.all()[0]));
    }
}
