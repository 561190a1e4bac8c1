//! Bakes the images of chroots that the frontend wants on this engine: those that are missing, old or requested, one at a
//! time and never at the cost of a build. A bake uses memory that the builds' budget leaves, and its processes yield the
//! processors to builds. Builds use an image until a newer one takes its name.
//!
//! The state of the images is read from the engine in each round, so a restart forgets only the pauses after failures.

pub(crate) mod schedule;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_chassis::{Backoff, BackoffExt};
use millrace_domain::{ChrootName, ImageName};
use millrace_sandbox::{Bake, BakeSpec, Runtime, SandboxError, SandboxLimits};
use millrace_wire::{ChrootImage, ChrootOrder, ChrootsRequest};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::bake::schedule::BakeSchedule;
use crate::config::bake::BakeSettings;
use crate::context::Context;
use crate::frontend::call_error::CallError;

/// Time between two rounds.
const PERIOD: Duration = Duration::from_secs(5);
/// A report that has not changed is sent again after this time.
const REPORT_AGAIN_AFTER: Duration = Duration::from_mins(1);
/// Time between two removals of old images.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(30);
/// A bake's container expires this long after the time limit of the bake; the cleanup then removes it.
const EXPIRY_MARGIN: TimeDelta = TimeDelta::minutes(5);
/// The most processes and threads of a bake.
const PIDS: u32 = 4096;
/// Tries to remove a bake's container before it is left to the cleanup.
const REMOVAL_TRIES: u32 = 5;

/// How a bake ended.
enum BakeEnd {
    Baked {
        digest: String,
    },
    /// Another builder on this engine is baking the image.
    Elsewhere,
    Failed(SandboxError),
    /// The builder stops, so the bake was broken off.
    Stopped,
}

/// A bake under way.
struct RunningBake {
    name: ChrootName,
    image: String,
    begun: Instant,
    task: JoinHandle<BakeEnd>,
}

/// The state of the baking loop.
struct Baker {
    ctx: Arc<Context>,
    settings: BakeSettings,
    schedule: BakeSchedule,
    reported: Option<(Vec<ChrootImage>, Instant)>,
    current: Option<RunningBake>,
    /// No bake begins before this time, because another builder on the engine is baking.
    next_bake_after: Instant,
    cleaned: Option<Instant>,
}

/// Bakes images until the stop.
pub async fn run(ctx: Arc<Context>, settings: BakeSettings) -> anyhow::Result<()> {
    if ctx.is_noop() {
        ctx.shutdown.stopping().await;
        return Ok(());
    }
    let mut baker = Baker {
        schedule: BakeSchedule::new(ctx.builder, settings.age, settings.retry),
        ctx,
        settings,
        reported: None,
        current: None,
        next_bake_after: Instant::now(),
        cleaned: None,
    };
    let mut pause = Backoff::new(PERIOD, PERIOD);
    loop {
        baker.tick().await;
        let stopping = Arc::clone(&baker.ctx);
        tokio::select! {
            () = stopping.shutdown.stopping() => break,
            ended = next_ended(&mut baker.current) => baker.record_end(ended),
            () = tokio::time::sleep(pause.next_delay()) => {}
        }
    }
    if let Some(current) = baker.current {
        // The bake notices the stop itself and removes its container.
        let _ended = current.task.await;
    }
    Ok(())
}

/// Waits for the end of the current bake; pends for ever when there is none.
async fn next_ended(current: &mut Option<RunningBake>) -> (RunningBake, BakeEnd) {
    let Some(one) = current else {
        return std::future::pending().await;
    };
    let ended = (&mut one.task).await;
    let ended = ended.unwrap_or_else(|error| {
        BakeEnd::Failed(SandboxError::BakeFailed {
            reason: format!("the bake's task failed: {error}"),
        })
    });
    match current.take() {
        Some(one) => (one, ended),
        None => std::future::pending().await,
    }
}

impl Baker {
    /// One round: reads which chroots are wanted, checks their images, begins a bake that is due, and reports.
    async fn tick(&mut self) {
        self.exchange().await;
        self.check_images().await;
        self.begin_due();
        if self.reported.as_ref().map(|(reported, _)| reported) != Some(&self.schedule.report()) {
            self.exchange().await;
        }
        if self
            .cleaned
            .is_none_or(|at| at.elapsed() >= CLEANUP_INTERVAL)
        {
            self.clean().await;
        }
    }

    /// Reports the images, when they changed or the last report is old, and reads which chroots are wanted.
    async fn exchange(&mut self) {
        let report = self.schedule.report();
        let is_reported = self
            .reported
            .as_ref()
            .is_some_and(|(reported, at)| *reported == report && at.elapsed() < REPORT_AGAIN_AFTER);
        let request = ChrootsRequest {
            images: (!is_reported).then(|| report.clone()),
        };
        match self.ctx.frontend.chroots(&request).await {
            Ok(answer) => {
                if !is_reported {
                    self.reported = Some((report, Instant::now()));
                }
                self.schedule.set_chroots(answer.chroots, Utc::now());
            }
            Err(CallError::Refused { status: 404, .. }) => {
                tracing::debug!("this release of the frontend does not manage images of chroots");
            }
            Err(error) => {
                tracing::debug!("cannot ask the frontend which chroots it wants: {error}");
            }
        }
    }

    /// Looks up the image of each chroot on the engine.
    async fn check_images(&mut self) {
        for (name, image) in self.schedule.images() {
            match self.ctx.runtime.image_facts(&image).await {
                Ok(facts) => {
                    self.schedule.record_image(&name, Some(facts));
                    self.ctx.record_image_present(&image);
                }
                Err(SandboxError::ImageMissing { .. }) => self.schedule.record_image(&name, None),
                Err(error) => {
                    tracing::warn!(chroot = %name, "cannot look up the image of a chroot: {error}");
                    return;
                }
            }
        }
    }

    /// Begins the next bake that is due, unless one is under way.
    fn begin_due(&mut self) {
        let now = Utc::now();
        let own = self.current.as_ref().map(|current| &current.name);
        self.schedule.clear_baked_elsewhere(own, now);
        if own.is_some() || self.ctx.shutdown.is_stopping() || Instant::now() < self.next_bake_after
        {
            return;
        }
        let Some(order) = self.schedule.due(now) else {
            return;
        };
        match self.spec(&order, now) {
            Ok(spec) => {
                self.schedule.mark_baking(&order.name, now);
                let ctx = Arc::clone(&self.ctx);
                self.current = Some(RunningBake {
                    name: order.name,
                    image: order.image,
                    begun: Instant::now(),
                    task: tokio::spawn(bake(ctx, spec, self.settings.limit)),
                });
            }
            Err(reason) => {
                tracing::error!(chroot = %order.name, "a chroot cannot be baked: {reason}");
                self.schedule.record_failure(&order.name, reason, now);
            }
        }
    }

    fn spec(&self, order: &ChrootOrder, now: DateTime<Utc>) -> Result<BakeSpec, String> {
        // The frontend has checked both. They are checked again since they become part of a command and of labels.
        let name = |what: &str, text: &str| -> Result<ImageName, String> {
            text.parse()
                .map_err(|error| format!("the {what} {text:?} is not a name of an image: {error}"))
        };
        let sandboxes = &self.ctx.sandboxes;
        let limit = TimeDelta::from_std(self.settings.limit).unwrap_or(TimeDelta::days(1));
        Ok(BakeSpec {
            builder: self.ctx.builder,
            chroot: order.name.clone(),
            mock_root: order.mock_root.clone(),
            base: name("base", order.base.as_deref().unwrap_or_default())?,
            image: name("image", &order.image)?,
            begun_at: now,
            expires: now + limit + EXPIRY_MARGIN,
            profile: sandboxes.profile,
            device_nodes: sandboxes.device_nodes,
            limits: SandboxLimits {
                memory_bytes: self.settings.memory_bytes,
                pids: PIDS,
                cpus: None,
            },
            network: sandboxes.network.clone(),
        })
    }

    /// Records how the current bake ended.
    fn record_end(&mut self, (current, ended): (RunningBake, BakeEnd)) {
        let RunningBake {
            name, image, begun, ..
        } = current;
        match ended {
            BakeEnd::Baked { digest } => {
                tracing::info!(
                    chroot = %name,
                    image.digest = digest,
                    duration_ms = begun.elapsed().as_millis(),
                    "the image of a chroot was baked"
                );
                self.schedule.record_success(&name);
                self.ctx.record_image_present(&image);
                self.cleaned = None;
            }
            // The next rounds check again, until the image is there or this builder can bake it.
            BakeEnd::Elsewhere => {
                tracing::debug!(chroot = %name, "another builder on this engine is baking the image");
                self.next_bake_after = Instant::now() + PERIOD / 2;
            }
            BakeEnd::Failed(error) => {
                let next = self
                    .schedule
                    .record_failure(&name, error.to_string(), Utc::now());
                tracing::warn!(chroot = %name, %next, "the bake of a chroot failed: {error}");
            }
            BakeEnd::Stopped => self.schedule.clear_baking(&name),
        }
    }

    /// Removes old images of chroots that no container uses any more.
    async fn clean(&mut self) {
        let Runtime::Engine(engine) = &self.ctx.runtime else {
            return;
        };
        match engine.remove_old_images().await {
            Ok(0) => {}
            Ok(images) => tracing::info!(images, "removed old images of chroots"),
            Err(error) => tracing::warn!("cannot remove old images of chroots: {error}"),
        }
        self.cleaned = Some(Instant::now());
    }
}

/// Runs one bake from its container's start to its removal.
async fn bake(ctx: Arc<Context>, spec: BakeSpec, limit: Duration) -> BakeEnd {
    let Runtime::Engine(engine) = &ctx.runtime else {
        return BakeEnd::Stopped;
    };
    let begun = tokio::select! {
        biased;
        // Pulling a base takes minutes. A container that is created at this moment is removed at the next start.
        () = ctx.shutdown.stopping() => return BakeEnd::Stopped,
        begun = engine.begin_bake(&spec) => begun,
    };
    let mut bake = match begun {
        Ok(Some(bake)) => bake,
        Ok(None) => return BakeEnd::Elsewhere,
        Err(error) => return BakeEnd::Failed(error),
    };
    tracing::info!(chroot = %spec.chroot, image = %spec.image, base = %spec.base, "baking the image of a chroot");
    let ended = tokio::select! {
        biased;
        () = ctx.shutdown.stopping() => BakeEnd::Stopped,
        ended = finish(&bake, limit) => ended,
    };
    for _ in 0..REMOVAL_TRIES {
        match bake.remove().await {
            Ok(()) => return ended,
            Err(error) => {
                tracing::warn!(chroot = %spec.chroot, "cannot remove the container of a bake yet: {error}");
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    ended
}

/// Waits for the bake and commits the image.
async fn finish(bake: &Bake, limit: Duration) -> BakeEnd {
    let waited = tokio::time::timeout(limit, bake.wait()).await;
    let waited = waited.unwrap_or_else(|_| {
        Err(SandboxError::BakeFailed {
            reason: format!(
                "mock --init took longer than {} s (MILLRACE_BAKE_TIMEOUT_SECONDS)",
                limit.as_secs()
            ),
        })
    });
    let committed = match waited {
        Ok(()) => bake.commit().await,
        Err(error) => Err(error),
    };
    match committed {
        Ok(digest) => BakeEnd::Baked { digest },
        Err(error) => BakeEnd::Failed(error),
    }
}
