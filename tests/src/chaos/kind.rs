//! The kinds of faults, and what each of them touches.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;

/// A way to break something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
#[expect(missing_docs, reason = "the names in `name` say what they are")]
pub enum Kind {
    KillBuilder,
    FreezeBuilder,
    RestartBuilder,
    CutBuilderFrontend,
    CutBuilderBroker,
    StallBuilder,
    SlowBuilder,
    FillDisk,
    KillFrontend,
    FreezeFrontend,
    RestartFrontend,
    CutFrontendBroker,
    CutFrontendDatabase,
    CutClients,
    KillBroker,
    RestartBroker,
    FreezeBroker,
    KillDatabase,
    RestartDatabase,
    FreezeDatabase,
    DoubleJobs,
    DoubleReports,
    DelayJobs,
    DelayReports,
}

/// What a fault holds while it lasts: two faults in the same area wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Area {
    /// One of the builders.
    Builder(usize),
    /// One of the frontends.
    Frontend(usize),
    /// The clients' way to the frontends.
    Clients,
    /// Broker or database: not both at once.
    Services,
    /// The job queues' messages.
    Jobs,
    /// The messages of the queue of reports.
    Reports,
}

impl Kind {
    /// What it is called in the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillBuilder => "builder killed -9",
            Self::FreezeBuilder => "builder frozen (SIGSTOP)",
            Self::RestartBuilder => "builder restarted (SIGTERM)",
            Self::CutBuilderFrontend => "builder cut off from the frontends",
            Self::CutBuilderBroker => "builder cut off from the broker",
            Self::StallBuilder => "builder's connections stalled",
            Self::SlowBuilder => "builder's connections slow",
            Self::FillDisk => "builder's disk full",
            Self::KillFrontend => "frontend killed -9",
            Self::FreezeFrontend => "frontend frozen (SIGSTOP)",
            Self::RestartFrontend => "frontend restarted (SIGTERM)",
            Self::CutFrontendBroker => "frontend cut off from the broker",
            Self::CutFrontendDatabase => "frontend cut off from the database",
            Self::CutClients => "clients' connections cut",
            Self::KillBroker => "broker killed -9",
            Self::RestartBroker => "broker restarted",
            Self::FreezeBroker => "broker frozen",
            Self::KillDatabase => "database killed -9",
            Self::RestartDatabase => "database restarted",
            Self::FreezeDatabase => "database frozen",
            Self::DoubleJobs => "jobs delivered twice",
            Self::DoubleReports => "reports delivered twice",
            Self::DelayJobs => "jobs held back",
            Self::DelayReports => "reports held back",
        }
    }

    /// What it touches; `target` chooses the process.
    pub fn area(self, target: usize) -> Area {
        match self {
            Self::KillBuilder
            | Self::FreezeBuilder
            | Self::RestartBuilder
            | Self::CutBuilderFrontend
            | Self::CutBuilderBroker
            | Self::StallBuilder
            | Self::SlowBuilder
            | Self::FillDisk => Area::Builder(target),
            Self::KillFrontend
            | Self::FreezeFrontend
            | Self::RestartFrontend
            | Self::CutFrontendBroker
            | Self::CutFrontendDatabase => Area::Frontend(target),
            Self::CutClients => Area::Clients,
            Self::KillBroker
            | Self::RestartBroker
            | Self::FreezeBroker
            | Self::KillDatabase
            | Self::RestartDatabase
            | Self::FreezeDatabase => Area::Services,
            Self::DoubleJobs | Self::DelayJobs => Area::Jobs,
            Self::DoubleReports | Self::DelayReports => Area::Reports,
        }
    }

    /// The shortest and the longest it lasts, in seconds: some are over before anybody notices, some outlast a lease.
    pub fn seconds(self) -> (f64, f64) {
        match self {
            Self::KillBuilder | Self::KillFrontend => (0.0, 12.0),
            Self::FreezeBuilder | Self::StallBuilder | Self::CutBuilderFrontend => (2.0, 45.0),
            Self::RestartBuilder | Self::RestartFrontend => (0.0, 4.0),
            Self::CutBuilderBroker | Self::SlowBuilder => (1.0, 30.0),
            Self::FreezeFrontend | Self::CutFrontendBroker | Self::CutFrontendDatabase => {
                (1.0, 25.0)
            }
            Self::FillDisk => (5.0, 30.0),
            Self::CutClients => (0.0, 8.0),
            Self::KillBroker | Self::RestartBroker | Self::KillDatabase | Self::RestartDatabase => {
                (0.0, 15.0)
            }
            Self::FreezeBroker | Self::FreezeDatabase => (2.0, 25.0),
            Self::DoubleJobs | Self::DoubleReports => (0.5, 3.0),
            Self::DelayJobs | Self::DelayReports => (2.0, 40.0),
        }
    }

    /// How long what it broke takes to serve again, roughly.
    pub fn recovery(self) -> Duration {
        match self.area(0) {
            Area::Builder(_) | Area::Frontend(_) => Duration::from_secs(3),
            Area::Services => Duration::from_secs(8),
            Area::Clients | Area::Jobs | Area::Reports => Duration::ZERO,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
