//! Rules about what must be gone once nothing is to be done.

use crate::invariants::Facts;
use crate::invariants::facts::Builder;

const CONTROL: &str = "millrace.control.builder.";

/// Uploads that neither became a file nor were removed.
pub(super) fn staged(facts: &Facts) -> Vec<String> {
    let staged = facts
        .stored
        .iter()
        .filter(|file| file.path.starts_with("staging/"));
    staged.map(|file| file.path.clone()).collect()
}

/// Orders that were not published.
pub(super) fn outbox(facts: &Facts) -> Vec<String> {
    facts
        .outbox
        .iter()
        .map(|attempt| format!("the order of attempt {attempt}"))
        .collect()
}

/// Messages that nobody understood; nobody sent any.
pub(super) fn parked(facts: &Facts) -> Vec<String> {
    facts.parked.clone()
}

/// Builders that are kept free.
pub(super) fn reserved(facts: &Facts) -> Vec<String> {
    facts
        .reserved
        .iter()
        .map(|task| format!("a builder is kept free for task {task}"))
        .collect()
}

/// Messages in any queue.
pub(super) fn messages(facts: &Facts) -> Vec<String> {
    let full = facts.queues.iter().filter(|queue| queue.messages > 0);
    full.map(|queue| format!("{} messages in {}", queue.messages, queue.name))
        .collect()
}

/// Control queues of builders that do not live.
pub(super) fn queues(facts: &Facts) -> Vec<String> {
    let lives = |id: &str| {
        facts
            .builders
            .iter()
            .any(|builder| builder.id == id && builder.live)
    };
    let orphan = |queue: &&crate::invariants::Queue| {
        queue
            .name
            .strip_prefix(CONTROL)
            .is_some_and(|id| !lives(id))
    };
    facts
        .queues
        .iter()
        .filter(orphan)
        .map(|queue| queue.name.clone())
        .collect()
}

/// Containers of our builders.
pub(super) fn containers(facts: &Facts) -> Vec<String> {
    facts
        .containers
        .iter()
        .map(|c| format!("container {} of builder {}", c.id, c.builder))
        .collect()
}

/// Attempts and other files in spools.
pub(super) fn spooled(facts: &Facts) -> Vec<String> {
    facts.spooled.clone()
}

/// Every builder lives and reports all that it offers as free.
pub(super) fn room(facts: &Facts) -> Vec<String> {
    let whole =
        |b: &Builder| b.live && b.free_mib == b.memory_mib && b.free_sandboxes == b.sandboxes;
    let words = |b: &Builder| {
        format!(
            "builder {} ({}) {}: {} of {} MiB and {} of {} sandboxes free",
            b.name,
            b.id,
            if b.live { "lives" } else { "is silent" },
            b.free_mib,
            b.memory_mib,
            b.free_sandboxes,
            b.sandboxes
        )
    };
    facts
        .builders
        .iter()
        .filter(|builder| !whole(builder))
        .map(words)
        .collect()
}

/// Processes that do not run, and panics in logs.
pub(super) fn processes(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    for process in &facts.processes {
        if !process.running {
            found.push(format!("{} does not run", process.name));
        }
        found.extend(
            process
                .panics
                .iter()
                .map(|line| format!("{}: {line}", process.name)),
        );
    }
    found
}
