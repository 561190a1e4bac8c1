//! Keeps one image for each chroot on the engine, from what the frontend wants: bakes what is missing, old or asked for,
//! one at a time and never at the cost of a build. A bake uses memory that the builds' budget leaves, and yields the
//! processors to them. An image serves builds until the moment in which a newer one takes its name.
//!
//! What is known is looked up on the engine each time, so a restart forgets nothing but the distance of failures.

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

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(5);
/// What has not changed is told again after this long.
const REPORT_AGAIN_AFTER: Duration = Duration::from_mins(1);
/// Time between two removals of old images.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(30);
/// A bake's container belongs to nobody so long after its time was up.
const EXPIRY_MARGIN: TimeDelta = TimeDelta::minutes(5);
/// Processes and threads of a bake.
const PIDS: u32 = 4096;
/// Tries to remove a container; then it is left to the sweep.
const REMOVAL_TRIES: u32 = 5;

/// How a bake went.
enum BakeEnd {
    Baked {
        digest: String,
    },
    /// Another builder on the engine bakes it.
    Elsewhere,
    Failed(SandboxError),
    /// This builder stops.
    Stopped,
}

/// A bake under way.
struct RunningBake {
    name: ChrootName,
    image: String,
    begun: Instant,
    task: JoinHandle<BakeEnd>,
}

struct Baker {
    ctx: Arc<Context>,
    settings: BakeSettings,
    schedule: BakeSchedule,
    reported: Option<(Vec<ChrootImage>, Instant)>,
    current: Option<RunningBake>,
    /// Not before this moment a bake is begun: a neighbour has the last one.
    next_bake_after: Instant,
    cleaned: Option<Instant>,
}

/// Keeps images until the stop.
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
        // It sees the stop itself and removes its container.
        let _ended = current.task.await;
    }
    Ok(())
}

/// The bake that has ended; pends while none does.
async fn next_ended(current: &mut Option<RunningBake>) -> (RunningBake, BakeEnd) {
    let Some(one) = current else {
        return std::future::pending().await;
    };
    let ended = (&mut one.task).await;
    let ended = ended.unwrap_or_else(|error| {
        BakeEnd::Failed(SandboxError::BakeFailed {
            reason: format!("the bake broke off: {error}"),
        })
    });
    match current.take() {
        Some(one) => (one, ended),
        None => std::future::pending().await,
    }
}

impl Baker {
    /// One round: hear what is wanted, look at what is there, begin what is due, tell.
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
                tracing::debug!("the frontend is of a release that keeps no images");
            }
            Err(error) => {
                tracing::debug!("the frontend does not say which chroots it wants: {error}");
            }
        }
    }

    async fn check_images(&mut self) {
        for (name, image) in self.schedule.images() {
            match self.ctx.runtime.image_facts(&image).await {
                Ok(facts) => {
                    self.schedule.found(&name, Some(facts));
                    self.ctx.image_is_there(&image);
                }
                Err(SandboxError::ImageMissing { .. }) => self.schedule.found(&name, None),
                Err(error) => {
                    tracing::warn!(chroot = %name, "cannot look at the image of a chroot: {error}");
                    return;
                }
            }
        }
    }

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
                self.schedule.failed(&order.name, reason, now);
            }
        }
    }

    fn spec(&self, order: &ChrootOrder, now: DateTime<Utc>) -> Result<BakeSpec, String> {
        // The frontend has checked both; here they become part of a command and of labels.
        let name = |what: &str, text: &str| -> Result<ImageName, String> {
            text.parse()
                .map_err(|error| format!("the {what} {text:?} is no image: {error}"))
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
                self.ctx.image_is_there(&image);
                self.cleaned = None;
            }
            // Looked at again with the next round, until it is there or is ours to bake.
            BakeEnd::Elsewhere => {
                tracing::debug!(chroot = %name, "baked by another builder");
                self.next_bake_after = Instant::now() + PERIOD / 2;
            }
            BakeEnd::Failed(error) => {
                let next = self.schedule.failed(&name, error.to_string(), Utc::now());
                tracing::warn!(chroot = %name, %next, "the bake of a chroot failed: {error}");
            }
            BakeEnd::Stopped => self.schedule.ended(&name),
        }
    }

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

async fn bake(ctx: Arc<Context>, spec: BakeSpec, limit: Duration) -> BakeEnd {
    let Runtime::Engine(engine) = &ctx.runtime else {
        return BakeEnd::Stopped;
    };
    let begun = tokio::select! {
        biased;
        // Pulling a base takes minutes. A container that is made in this very moment is swept at the next start.
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
                tracing::warn!(chroot = %spec.chroot, "a bake cannot be removed yet: {error}");
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    ended
}

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
