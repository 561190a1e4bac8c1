//! How a pipeline and its builders are made.

/// What builders run builds in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// Real containers.
    Mock,
    /// The stand-in that succeeds at once.
    Noop,
}

/// How a pipeline is made.
#[derive(Debug)]
pub struct PipelineOptions {
    /// What builders run builds in.
    pub sandbox: Sandbox,
    /// How many builders to start.
    pub builders: usize,
    /// Sandboxes of each builder at once.
    pub sandboxes: usize,
    /// Whether the test stops the database: it is the test's own then.
    pub private_database: bool,
    /// Whether the test stops the broker, or makes it another one than the shared broker: it is the test's own then.
    pub private_broker: bool,
    /// Chroots beside that of the suite, for builds that need not run.
    pub more_chroots: Vec<String>,
    /// A private broker's `advanced.config`.
    pub broker_conf: &'static str,
    /// Another image of the chroot than the settings'.
    pub image: Option<String>,
    /// Puts the builders' spools on a disk of so many MiB.
    pub spool_mib: Option<u32>,
    /// Puts the result store on a disk of so many MiB.
    pub results_mib: Option<u32>,
    /// More environment of the frontend.
    pub frontend_env: Vec<(String, String)>,
    /// More environment of the builders.
    pub builder_env: Vec<(String, String)>,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self {
            sandbox: Sandbox::Mock,
            builders: 1,
            sandboxes: 2,
            private_database: false,
            private_broker: false,
            more_chroots: Vec::new(),
            broker_conf: "[].",
            image: None,
            spool_mib: None,
            results_mib: None,
            frontend_env: Vec::new(),
            builder_env: Vec::new(),
        }
    }
}

/// How a further builder differs.
#[derive(Debug, Default)]
pub struct BuilderOptions {
    /// More environment, over the pipeline's.
    pub env: Vec<(String, String)>,
}
