//! Why a task waits: turns the store's facts into a word for scripts and a sentence for people.

pub(crate) mod image;

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_domain::{TaskId, TaskState};
use millrace_store::{HoldReason, StoreError, WaitFacts};

use crate::http::api::model::task::Task;
use crate::http::api::model::wait::{WaitReason, WaitWord};
use crate::state::AppState;
use crate::state::broker_health;

/// Fills in `wait` of those tasks that no builder has yet.
pub async fn explain(state: &AppState, tasks: &mut [&mut Task]) -> Result<(), StoreError> {
    let waiting: Vec<TaskId> = tasks
        .iter()
        .filter(|task| is_unclaimed(task.state))
        .map(|task| task.id)
        .collect();
    let limit = state.settings.config.fairness.owner_running;
    let waits = state.store.wait_facts(&waiting, limit).await?;
    let mut waits: HashMap<TaskId, WaitFacts> = waits.into_iter().map(|w| (w.task_id, w)).collect();
    let broker_up = broker_health::broker_problem(state).is_none();
    for task in tasks {
        task.wait = waits.remove(&task.id).map(|wait| reason(&wait, broker_up));
    }
    Ok(())
}

fn is_unclaimed(state: TaskState) -> bool {
    match state {
        TaskState::Waiting | TaskState::Queued => true,
        TaskState::Running | TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled => {
            false
        }
    }
}

fn reason(wait: &WaitFacts, broker_up: bool) -> WaitReason {
    let (word, message) = classify(wait, broker_up);
    let ahead = tasks_ahead(wait);
    WaitReason {
        reason: word,
        message,
        ahead,
        position: word.has_position().then(|| ahead.saturating_add(1)),
        estimated_start: estimate(wait, word),
        not_before: wait.not_before,
    }
}

/// Picks the reason to show, with its sentence. Reasons that need action come before those that time alone resolves.
fn classify(wait: &WaitFacts, broker_up: bool) -> (WaitWord, String) {
    match &wait.hold_reason {
        Some(HoldReason::Poller(name)) => {
            let message = format!("for poller {name}; the queue gets it if that does not poll");
            return (WaitWord::Poller, message);
        }
        Some(HoldReason::Import) => {
            let message = "imported; `millrace import FILE --release` gives it to the queue";
            return (WaitWord::Imported, message.to_owned());
        }
        None => {}
    }
    let fits = wait.largest_mib.is_some_and(|mib| mib >= wait.memory_mib);
    if let (false, Some(message)) = (fits, unavailable_builders(wait)) {
        return (WaitWord::BuildersDrained, message);
    }
    match wait.largest_mib {
        None => (
            WaitWord::NoBuilder,
            format!("no builder offers this architecture ({})", wait.arch),
        ),
        Some(largest) if largest < wait.memory_mib => (
            WaitWord::TooLarge,
            format!(
                "needs {}, largest builder offers {}",
                memory_text(wait.memory_mib),
                memory_text(largest)
            ),
        ),
        Some(_) if wait.largest_open_mib < Some(wait.memory_mib) => {
            (WaitWord::ShortOfDisk, short_of_disk(wait))
        }
        Some(_) if wait.lacking_image.is_some() && !wait.is_image_somewhere => {
            image::classify(wait)
        }
        Some(_) if !broker_up => (
            WaitWord::BrokerAway,
            "broker away; it goes on by itself when RabbitMQ is back".to_owned(),
        ),
        Some(_) => in_order(wait),
    }
}

/// Names the drained and set aside builders that could run the task otherwise; none when there are none.
fn unavailable_builders(wait: &WaitFacts) -> Option<String> {
    let named = |what: &str, names: &[String]| {
        (!names.is_empty()).then(|| format!("builders {what}: {}", names.join(", ")))
    };
    let drained = named("drained", &wait.drained);
    let set_aside = named("set aside", &wait.set_aside);
    match (drained, set_aside) {
        (Some(drained), Some(set_aside)) => Some(format!("{drained}; {set_aside}")),
        (drained, set_aside) => drained.or(set_aside),
    }
}

/// Tasks that the scheduler would release first: none once the task is released, or a builder is reserved for it.
fn tasks_ahead(wait: &WaitFacts) -> u64 {
    if wait.is_queued || wait.reserved_builder.is_some() {
        0
    } else {
        wait.ahead
    }
}

/// When the task is expected to start, where only time and other tasks' ends stand in the way.
fn estimate(wait: &WaitFacts, word: WaitWord) -> Option<DateTime<Utc>> {
    match word {
        // Needs action first, or another task of the owner has to end.
        WaitWord::Poller
        | WaitWord::Imported
        | WaitWord::NoBuilder
        | WaitWord::TooLarge
        | WaitWord::BuildersDrained
        | WaitWord::ShortOfDisk
        | WaitWord::ImageMissing
        | WaitWord::ChrootBaking
        | WaitWord::BakeFailed
        | WaitWord::BrokerAway
        | WaitWord::OwnerLimit => None,
        WaitWord::OnItsWay => Some(Utc::now()),
        WaitWord::Released | WaitWord::BackOff | WaitWord::Behind | WaitWord::BuildersFull => {
            #[expect(clippy::cast_possible_truncation, reason = "an estimate")]
            let millis = (wait.starts_in? * 1000.0) as i64;
            let start = Utc::now().checked_add_signed(TimeDelta::try_milliseconds(millis)?)?;
            Some(wait.not_before.map_or(start, |time| time.max(start)))
        }
    }
}

/// Memory in GB where that is a whole number, otherwise in MB; both count in powers of 1024.
fn memory_text(mib: u32) -> String {
    if mib.is_multiple_of(1024) && mib > 0 {
        format!("{} GB", mib / 1024)
    } else {
        format!("{mib} MB")
    }
}

fn short_of_disk(wait: &WaitFacts) -> String {
    format!(
        "builders short of disk ({}); make room on the disks of their spools (MILLRACE_SPOOL_DIR), and it starts by itself",
        wait.short_of_disk.join(", ")
    )
}

/// The reasons of a task that builders could run: where it is on its way, or what comes first.
fn in_order(wait: &WaitFacts) -> (WaitWord, String) {
    if wait.is_queued {
        (
            WaitWord::Released,
            "released; the next builder with room takes it".to_owned(),
        )
    } else if wait.is_offered {
        (
            WaitWord::OnItsWay,
            "released; its order is on the way to RabbitMQ".to_owned(),
        )
    } else if let Some(image) = &wait.lacking_image {
        (
            WaitWord::BuildersFull,
            format!("builders that have the image {image} are full"),
        )
    } else if let Some(time) = wait.not_before {
        let time = time.format("%H:%M:%S UTC");
        (WaitWord::BackOff, format!("tried again at {time}"))
    } else if wait.owner_active >= u64::from(wait.owner_limit) {
        (
            WaitWord::OwnerLimit,
            format!("owner at its limit: {} tasks under way", wait.owner_active),
        )
    } else if let Some(builder) = &wait.reserved_builder {
        (
            WaitWord::BuildersFull,
            format!("builders full; {builder} is kept free for it"),
        )
    } else if wait.ahead > 0 {
        let tasks = if wait.ahead == 1 { "task" } else { "tasks" };
        (WaitWord::Behind, format!("behind {} {tasks}", wait.ahead))
    } else {
        (WaitWord::BuildersFull, builders_full(wait))
    }
}

/// The sentence for a task that is next in order.
fn builders_full(wait: &WaitFacts) -> String {
    match &wait.reserved_for_larger {
        Some((builder, mib)) => format!(
            "builders full; {builder} is kept free for a task that needs {}",
            memory_text(*mib)
        ),
        None => "builders full; next in turn".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait() -> WaitFacts {
        WaitFacts {
            hold_reason: None,
            task_id: TaskId(1),
            arch: "x86_64".to_owned(),
            memory_mib: 2048,
            largest_mib: Some(16384),
            drained: Vec::new(),
            set_aside: Vec::new(),
            largest_open_mib: Some(16384),
            short_of_disk: Vec::new(),
            chroot: "fedora-44-x86_64".to_owned(),
            lacking_image: None,
            base: None,
            bake: None,
            is_image_somewhere: true,
            not_before: None,
            owner_active: 0,
            owner_limit: 4,
            ahead: 0,
            is_offered: false,
            is_queued: false,
            reserved_builder: None,
            reserved_for_larger: None,
            starts_in: None,
        }
    }

    fn word(change: impl FnOnce(&mut WaitFacts), broker_up: bool) -> (WaitWord, String) {
        let mut wait = wait();
        change(&mut wait);
        let reason = reason(&wait, broker_up);
        (reason.reason, reason.message)
    }

    #[test]
    fn the_reason_that_a_person_can_act_on_comes_first() {
        let alone = word(|w| w.largest_mib = None, false);
        assert_eq!(alone.0, WaitWord::NoBuilder);
        let large = word(|w| w.memory_mib = 65536, false);
        assert_eq!(large.0, WaitWord::TooLarge);
        assert_eq!(large.1, "needs 64 GB, largest builder offers 16 GB");
        let short = |w: &mut WaitFacts| {
            w.largest_open_mib = None;
            w.short_of_disk = vec!["b1".to_owned(), "b2".to_owned()];
        };
        let short = word(short, false);
        assert_eq!(short.0, WaitWord::ShortOfDisk);
        assert!(short.1.starts_with("builders short of disk (b1, b2);"));
        let lacks = |w: &mut WaitFacts| w.lacking_image = Some("i/1".to_owned());
        let alone = word(
            |w| {
                lacks(w);
                w.is_image_somewhere = false;
            },
            false,
        );
        assert_eq!(alone.0, WaitWord::ImageMissing);
        let named = "no builder has the image i/1 of chroot fedora-44-x86_64;";
        assert!(alone.1.starts_with(named), "{}", alone.1);
        assert_eq!(
            word(lacks, true).1,
            "builders that have the image i/1 are full"
        );
        assert_eq!(word(|w| w.ahead = 3, false).0, WaitWord::BrokerAway);
        let unavailable = |w: &mut WaitFacts| {
            w.largest_mib = None;
            w.drained = vec!["b1".to_owned(), "b2".to_owned()];
            w.set_aside = vec!["b3".to_owned()];
        };
        let drained = word(unavailable, false);
        assert_eq!(drained.0, WaitWord::BuildersDrained);
        assert_eq!(
            drained.1,
            "builders drained: b1, b2; builders set aside: b3"
        );
        assert_eq!(
            word(|w| w.not_before = Some(Utc::now()), true).0,
            WaitWord::BackOff
        );
        assert_eq!(word(|w| w.is_offered = true, true).0, WaitWord::OnItsWay);
        let released = |w: &mut WaitFacts| (w.is_offered, w.is_queued) = (true, true);
        assert_eq!(word(released, true).0, WaitWord::Released);
        assert_eq!(word(released, false).0, WaitWord::BrokerAway);
        let deserted = |w: &mut WaitFacts| (w.is_queued, w.largest_mib) = (true, None);
        assert_eq!(word(deserted, true).0, WaitWord::NoBuilder);
        assert_eq!(word(|w| w.owner_active = 4, true).0, WaitWord::OwnerLimit);
        assert_eq!(word(|w| w.ahead = 3, true).1, "behind 3 tasks");
        assert_eq!(word(|w| w.ahead = 1, true).1, "behind 1 task");
        assert_eq!(word(|_| (), true).0, WaitWord::BuildersFull);
        let kept = word(
            |w| {
                w.ahead = 3;
                w.reserved_builder = Some("b1".to_owned());
            },
            true,
        );
        assert_eq!(kept.1, "builders full; b1 is kept free for it");
        let small = word(
            |w| w.reserved_for_larger = Some(("b1".to_owned(), 7000)),
            true,
        );
        assert_eq!(
            small.1,
            "builders full; b1 is kept free for a task that needs 7000 MB"
        );
    }

    #[test]
    fn place_and_start_are_told_where_they_can_be() {
        let place_and_start = |change: fn(&mut WaitFacts), broker_up| {
            let mut wait = wait();
            wait.ahead = 3;
            wait.starts_in = Some(60.0);
            change(&mut wait);
            let reason = reason(&wait, broker_up);
            let seconds = reason
                .estimated_start
                .map(|t| (t - Utc::now()).num_seconds());
            (reason.position, seconds)
        };
        assert!(matches!(
            place_and_start(|_| (), true),
            (Some(4), Some(58..=60))
        ));
        assert_eq!(place_and_start(|_| (), false), (Some(4), None));
        assert_eq!(
            place_and_start(|w| w.largest_mib = None, true),
            (None, None)
        );
        assert_eq!(
            place_and_start(|w| w.owner_active = 4, true),
            (Some(4), None)
        );
        assert_eq!(
            place_and_start(|w| w.starts_in = None, true),
            (Some(4), None)
        );
        let delayed = |w: &mut WaitFacts| {
            w.not_before = Utc::now().checked_add_signed(TimeDelta::seconds(90));
        };
        assert!(matches!(
            place_and_start(delayed, true),
            (Some(4), Some(88..=90))
        ));
    }
}
