//! What `make chaos` can be told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::kind::Kind;

/// What builders run builds in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SandboxKind {
    /// Containers in which mock builds the fixtures
    Real,
    /// A stand-in that succeeds after a moment: many tasks, no containers
    Noop,
}

/// Breaks a running pipeline in every way it must survive, for some minutes, and tells whether a build was lost,
/// doubled or stuck, or anything was left behind.
///
/// Frontends and builders are processes of this machine; PostgreSQL, RabbitMQ and (with SANDBOX=real) the sandboxes are
/// containers, all of this run alone. Connections between them pass a proxy that can cut them. Filling a builder's disk
/// needs the right to mount; without it that one kind of fault is left out, which is said.
///
/// The same seed gives the same plan of faults and the same choices of clients; what falls together in time differs.
///
/// Exit codes: 0 all invariants hold, 1 at least one does not (the list says which, and where the logs are), 2 wrong usage.
#[derive(Debug, Clone, Parser)]
#[command(name = "make chaos", version, verbatim_doc_comment)]
pub struct Options {
    /// Names the plan; a random one when absent. Printed first and last
    #[arg(long, env = "SEED")]
    pub seed: Option<u64>,
    /// How long faults are made, in minutes; fractions are fine. Then everything is healed and must come to its end
    #[arg(long, env = "MINUTES", default_value_t = 20.0)]
    pub minutes: f64,
    /// What builders run builds in
    #[arg(long, env = "SANDBOX", default_value = "real")]
    pub sandbox: SandboxKind,
    /// Go on submitting until there are at least so many tasks, also beyond MINUTES
    #[arg(long, env = "TASKS", default_value_t = 0)]
    pub tasks: usize,
    /// Builders
    #[arg(long, env = "BUILDERS", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=50))]
    pub builders: u16,
    /// Frontends
    #[arg(long, env = "FRONTENDS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=20))]
    pub frontends: u16,
    /// Sandboxes of each builder at once [default: 2 real, 8 no-op]
    #[arg(long, env = "SANDBOXES")]
    pub sandboxes: Option<u16>,
    /// Mean time between two faults, in seconds [default: fits MINUTES, 3 to 15]
    #[arg(long, env = "FAULT_SECONDS")]
    pub fault_seconds: Option<f64>,
    /// How long everything may take to come to its end after the last fault, in minutes
    #[arg(long, env = "SETTLE_MINUTES", default_value_t = 8.0)]
    pub settle_minutes: f64,
    /// Folder for logs, spools and results; removed after a good end, kept after a bad one [default: one below TMPDIR]
    #[arg(long, env = "CHAOS_DIR")]
    pub folder: Option<PathBuf>,
    /// Make only these kinds of faults, separated by commas
    #[arg(long, env = "ONLY", value_enum, value_delimiter = ',')]
    pub only: Vec<Kind>,
    /// Make all but these kinds of faults
    #[arg(
        long,
        env = "WITHOUT",
        value_enum,
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub without: Vec<Kind>,
    /// Print the plan and end
    #[arg(long)]
    pub plan: bool,
}

impl Default for Options {
    /// What `make chaos` takes without any environment.
    fn default() -> Self {
        Self {
            seed: None,
            minutes: 20.0,
            sandbox: SandboxKind::Real,
            tasks: 0,
            builders: 4,
            frontends: 2,
            sandboxes: None,
            fault_seconds: None,
            settle_minutes: 8.0,
            folder: None,
            only: Vec::new(),
            without: Vec::new(),
            plan: false,
        }
    }
}

impl Options {
    /// How long faults are made.
    pub fn time(&self) -> Duration {
        Duration::from_secs_f64((self.minutes * 60.0).clamp(10.0, 7.0 * 86_400.0))
    }

    /// How long the end is waited for.
    pub fn settling(&self) -> Duration {
        Duration::from_secs_f64((self.settle_minutes * 60.0).clamp(10.0, 86_400.0))
    }

    /// Mean time between two faults.
    pub fn gap(&self) -> Duration {
        let fitting = (self.time().as_secs_f64() / 90.0).clamp(3.0, 15.0);
        Duration::from_secs_f64(self.fault_seconds.unwrap_or(fitting).clamp(0.1, 3600.0))
    }

    /// Kinds of faults that are made.
    pub fn kinds(&self) -> Vec<Kind> {
        let wanted = if self.only.is_empty() {
            Kind::value_variants()
        } else {
            &self.only
        };
        let kept = wanted.iter().filter(|kind| !self.without.contains(kind));
        kept.copied().collect()
    }

    /// Sandboxes of each builder at once.
    pub fn sandboxes(&self) -> usize {
        let fitting = if self.is_real() { 2 } else { 8 };
        self.sandboxes.map_or(fitting, usize::from).max(1)
    }

    /// Whether builds run in containers.
    pub fn is_real(&self) -> bool {
        self.sandbox == SandboxKind::Real
    }

    /// Tasks that are under way at once at most.
    pub fn outstanding(&self) -> usize {
        let room = usize::from(self.builders) * self.sandboxes();
        if self.is_real() { room * 3 } else { room * 8 }
    }

    /// Clients that submit at the same time.
    pub fn clients(&self) -> usize {
        if self.is_real() { 6 } else { 16 }
    }

    /// No-op builds come at this rate a second, so that they last as long as the faults: half more than asked for.
    #[expect(clippy::cast_precision_loss, reason = "a number of tasks")]
    pub fn rate(&self) -> Option<f64> {
        let wanted = if self.tasks == 0 {
            500.0 * self.minutes
        } else {
            self.tasks as f64 * 1.1
        };
        (!self.is_real()).then(|| wanted / self.time().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_command() {
        // The environment of whoever runs the tests may hold the same names.
        let fixed = [
            "chaos",
            "--minutes",
            "20",
            "--sandbox",
            "real",
            "--tasks",
            "0",
            "--builders",
            "4",
            "--frontends",
            "2",
            "--settle-minutes",
            "8",
        ];
        let parsed = Options::try_parse_from(fixed).unwrap();
        let default = Options::default();
        assert_eq!(
            (parsed.time(), parsed.outstanding()),
            (default.time(), default.outstanding())
        );
        assert_eq!(
            (parsed.settling(), parsed.clients()),
            (default.settling(), default.clients())
        );
    }

    #[test]
    fn wrong_sizes_are_refused() {
        for wrong in [
            ["--builders", "0"],
            ["--sandbox", "cloud"],
            ["--minutes", "long"],
        ] {
            assert!(
                Options::try_parse_from([&["chaos"], &wrong[..]].concat()).is_err(),
                "{wrong:?}"
            );
        }
    }
}
