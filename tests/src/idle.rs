//! What processes use of a processor while they have nothing to do.

use std::time::{Duration, Instant};

use crate::{Pipeline, Process};

/// How long a start is given to be over.
const SETTLE: Duration = Duration::from_secs(5);

/// The parts of a core that the first frontend and the first builder use over a time without work.
pub async fn idle_share(pipeline: &Pipeline, look: Duration) -> (f64, f64) {
    // Time itself is what is measured here.
    tokio::time::sleep(SETTLE).await;
    let processes: [&Process; 2] = [&pipeline.frontends[0], &pipeline.builders[0]];
    let before = processes.map(Process::processor_time);
    let began = Instant::now();
    tokio::time::sleep(look).await;
    let looked = began.elapsed().as_secs_f64();
    let after = processes.map(Process::processor_time);
    let share = |n: usize| after[n].saturating_sub(before[n]).as_secs_f64() / looked;
    (share(0), share(1))
}
