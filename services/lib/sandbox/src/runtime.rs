//! One interface to real sandboxes and to the stand-in, so that a builder needs no branch for either.

use std::path::Path;

use bytes::Bytes;
use millrace_supervisor::Notice;
use tokio::sync::mpsc;

use crate::attach::Receivers;
use crate::engine::{Engine, EngineInfo};
use crate::error::SandboxError;
use crate::image::ImageFacts;
use crate::network::NetworkSpec;
use crate::noop::{NoopEngine, NoopSandbox};
use crate::result_files::{CollectCaps, Collected};
use crate::sandbox::{Ended, Running};
use crate::spec::{SandboxFiles, SandboxSpec};
use crate::sweep::{SweepFilter, Swept};

/// Where sandboxes come from. Cloning is cheap.
#[derive(Debug, Clone)]
pub enum Runtime {
    /// Sandboxes are containers on this engine.
    Engine(Engine),
    /// Sandboxes are the stand-in's, which runs nothing.
    Noop(NoopEngine),
}

impl Runtime {
    /// [`Engine::info`], or the stand-in's own properties.
    pub async fn info(&self) -> Result<EngineInfo, SandboxError> {
        match self {
            Self::Engine(engine) => engine.info().await,
            Self::Noop(engine) => Ok(engine.info()),
        }
    }

    /// [`Engine::ensure_network`]; the stand-in has no network and needs none.
    pub async fn ensure_network(&self, network: &NetworkSpec) -> Result<(), SandboxError> {
        match self {
            Self::Engine(engine) => engine.ensure_network(network).await,
            Self::Noop(_) => Ok(()),
        }
    }

    /// [`Engine::image_facts`]; the stand-in has every image.
    pub async fn image_facts(&self, image: &str) -> Result<ImageFacts, SandboxError> {
        match self {
            Self::Engine(engine) => engine.image_facts(image).await,
            Self::Noop(_) => Ok(ImageFacts {
                digest: "noop".to_owned(),
                baked_at: None,
            }),
        }
    }

    /// [`Engine::sweep`]; the stand-in leaves nothing behind.
    pub async fn sweep(&self, filter: SweepFilter) -> Result<Vec<Swept>, SandboxError> {
        match self {
            Self::Engine(engine) => engine.sweep(filter).await,
            Self::Noop(_) => Ok(Vec::new()),
        }
    }

    /// Creates a sandbox, puts its files in and starts it. After an error no container is left.
    pub async fn start(
        &self,
        spec: &SandboxSpec,
        files: &SandboxFiles,
    ) -> Result<SandboxHandle, SandboxError> {
        let (inner, receivers) = match self {
            Self::Engine(engine) => {
                let (running, receivers) = Running::start(engine, spec, files).await?;
                (Inner::Engine(running), receivers)
            }
            Self::Noop(engine) => {
                let (sandbox, receivers) = NoopSandbox::start(engine, files);
                (Inner::Noop(sandbox), receivers)
            }
        };
        let Receivers { log, notices, .. } = receivers;
        Ok(SandboxHandle {
            inner,
            log: Some(log),
            notices: Some(notices),
        })
    }
}

#[derive(Debug)]
enum Inner {
    Engine(Running),
    Noop(NoopSandbox),
}

/// A started sandbox. While this handle exists, its supervisor gets a ping every 5 s. Dropping it ends the sandbox at
/// once, and leaves the container unless [`SandboxHandle::remove`] was called before.
#[derive(Debug)]
pub struct SandboxHandle {
    inner: Inner,
    log: Option<mpsc::Receiver<Bytes>>,
    notices: Option<mpsc::Receiver<Notice>>,
}

impl SandboxHandle {
    /// The container's id on its engine; empty for the stand-in and once removed.
    pub fn container_id(&self) -> &str {
        match &self.inner {
            Inner::Engine(running) => running.id(),
            Inner::Noop(_) => "",
        }
    }

    /// The log in pieces; none after the first call. It must be read: a full channel holds the build back. When it is
    /// dropped, the rest of the log is discarded. It ends with the sandbox.
    pub fn take_log(&mut self) -> Option<mpsc::Receiver<Bytes>> {
        self.log.take()
    }

    /// The supervisor's notices; none after the first call. Notices that find the channel full are lost; the report at
    /// the end has all that matters.
    pub fn take_notices(&mut self) -> Option<mpsc::Receiver<Notice>> {
        self.notices.take()
    }

    /// Cancels it: SIGINT to all processes now, SIGKILL after the plan's grace.
    pub fn cancel(&self) {
        match &self.inner {
            Inner::Engine(running) => running.cancel(),
            Inner::Noop(sandbox) => sandbox.stop(),
        }
    }

    /// Waits for the end. May be dropped and called again. A log that was not taken is discarded. A
    /// sandbox whose supervisor does not keep the wall limit is killed from outside.
    pub async fn wait(&mut self) -> Result<Ended, SandboxError> {
        match &mut self.inner {
            Inner::Engine(running) => {
                // Left in place it would fill up and hold the build back.
                self.log = None;
                running.wait().await
            }
            Inner::Noop(sandbox) => Ok(sandbox.ended().await),
        }
    }

    /// Takes the results out of an ended sandbox, as new files in the spool folder, which must be there.
    pub async fn collect(
        &self,
        result_dir: &str,
        spool_dir: &Path,
        caps: &CollectCaps,
    ) -> Result<Collected, SandboxError> {
        match &self.inner {
            Inner::Engine(running) => running.collect(result_dir, spool_dir, *caps).await,
            Inner::Noop(_) => NoopSandbox::collect(spool_dir).await,
        }
    }

    /// Ends it from outside at once. Its report is lost.
    pub async fn kill(&self) -> Result<(), SandboxError> {
        match &self.inner {
            Inner::Engine(running) => running.kill().await,
            Inner::Noop(sandbox) => {
                sandbox.stop();
                Ok(())
            }
        }
    }

    /// Removes its container, whether it has ended or not. May be called again, above all after a failure.
    pub async fn remove(&mut self) -> Result<(), SandboxError> {
        match &mut self.inner {
            Inner::Engine(running) => running.remove().await,
            Inner::Noop(_) => Ok(()),
        }
    }
}
