//! The protocol between builder and supervisor: the plan in a file, commands on stdin, notices on stderr, the report at
//! the end. All of it is JSON, so that a person can read a captured stream.

use serde::{Deserialize, Serialize};

/// Folder of a sandbox that holds everything Millrace puts there.
pub const HOME: &str = "/millrace";
/// Where the builder puts the supervisor's binary.
pub const SUPERVISOR_PATH: &str = "/millrace/supervisor";
/// Where the builder puts the plan.
pub const PLAN_PATH: &str = "/millrace/plan.json";
/// Where the builder puts the source, whatever its own name was.
pub const SOURCE_PATH: &str = "/millrace/source.src.rpm";
/// Where the builder puts packages that were built before, as a repository for this build.
pub const PACKAGES_DIR: &str = "/millrace/packages";
/// Where the builder puts the program that checks extra repositories.
pub const REPOSITORIES_PROGRAM: &str = "/millrace/repositories.py";
/// Where that program leaves mock's arguments for the repositories it found.
pub const REPOSITORIES_PATH: &str = "/millrace/repositories";
/// Where a source package lies that names dynamic build requirements, whatever its own name was.
pub const REQUIRES_PATH: &str = "/millrace/requires.nosrc.rpm";
/// Where the supervisor leaves a second copy of its report.
pub const REPORT_PATH: &str = "/millrace/report.json";
/// Where results are taken from, unless the plan says otherwise.
pub const RESULT_DIR: &str = "/millrace/results";

/// The steps that a sandbox runs, and their limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Run one after another; the first that does not exit with 0 is the last.
    pub steps: Vec<Step>,
    /// Environment of every step, on top of the container's own.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Limit on the wall time of the whole tree, in seconds from the supervisor's start.
    pub wall_limit_seconds: u32,
    /// Time between SIGINT and SIGKILL when the wall limit was hit, in seconds.
    #[serde(default = "timeout_grace")]
    pub timeout_grace_seconds: u32,
    /// Time between SIGINT and SIGKILL on a cancel, in seconds.
    #[serde(default = "cancel_grace")]
    pub cancel_grace_seconds: u32,
    /// The builder counts as gone after this long without a command, in seconds.
    #[serde(default = "ping_timeout")]
    pub ping_timeout_seconds: u32,
    /// Time between two samples of the memory counters, in milliseconds.
    #[serde(default = "sample_interval")]
    pub sample_interval_ms: u32,
    /// Made before the first step; results are collected from it.
    #[serde(default = "result_dir")]
    pub result_dir: String,
    /// Owner of `result_dir`; mock makes its files as an unprivileged user.
    #[serde(default)]
    pub result_owner: Option<Owner>,
    /// Where the report is left for a reader who lost the stream.
    #[serde(default = "report_path")]
    pub report_path: String,
    /// Limits on the log.
    #[serde(default)]
    pub log: LogCaps,
    /// Limit on the time without output, in seconds; none means no limit.
    #[serde(default)]
    pub silence_limit_seconds: Option<u32>,
    /// Limit on what is added to the root file system, in bytes; none means that it is not measured.
    #[serde(default)]
    pub disk_limit_bytes: Option<u64>,
}

/// One command of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name in notices and the report, such as `dependencies` or `rebuild`.
    pub name: String,
    /// Path of the program, then its arguments.
    pub argv: Vec<String>,
    /// A file that an earlier step left, with further arguments, one a line; none means no more.
    #[serde(default)]
    pub arguments_from: Option<String>,
    /// Its environment, on top of the plan's.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Stage that begins with the step, until its output announces another; none leaves the current one.
    #[serde(default)]
    pub stage: Option<String>,
    /// State of the network before the step starts; none leaves it as it is.
    #[serde(default)]
    pub network: Option<Network>,
    /// Installs build requirements that the step found out itself, and repeats it; none where it finds out none.
    #[serde(default)]
    pub rounds: Option<Rounds>,
}

/// State of a sandbox's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The sandboxes' network, with the package mirrors.
    Connected,
    /// Loopback only: no link to anything outside.
    Cut,
}

/// Rounds of dynamic build requirements: the step leaves a file that names them, they are installed, it runs again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rounds {
    /// The step's exit codes that may mean missing requirements.
    pub exit_codes: Vec<i32>,
    /// The folder in which the file is left, `*` standing for any one name in the place of a folder.
    pub folder: String,
    /// How the file's name ends.
    pub suffix: String,
    /// Installs what the file names. The file lies at [`REQUIRES_PATH`] by then.
    pub install: Box<Step>,
    /// Largest number of rounds.
    pub at_most: u32,
}

/// A numeric user and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Numeric user id inside the container.
    pub uid: u32,
    /// Numeric group id inside the container.
    pub gid: u32,
}

/// Limits on the log, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogCaps {
    /// Bytes stored from the beginning, and streamed as they come.
    pub head_bytes: u64,
    /// Bytes stored from the end, held in memory until then.
    pub tail_bytes: u64,
    /// A build that writes more bytes than this is ended.
    pub hard_bytes: u64,
}

impl Default for LogCaps {
    fn default() -> Self {
        Self {
            head_bytes: 48 << 20,
            tail_bytes: 16 << 20,
            hard_bytes: 1 << 30,
        }
    }
}

impl Plan {
    /// A plan with everything but its steps and its wall limit at the defaults.
    pub fn new(steps: Vec<Step>, wall_limit_seconds: u32) -> Self {
        Self {
            steps,
            env: Vec::new(),
            wall_limit_seconds,
            timeout_grace_seconds: timeout_grace(),
            cancel_grace_seconds: cancel_grace(),
            ping_timeout_seconds: ping_timeout(),
            sample_interval_ms: sample_interval(),
            result_dir: result_dir(),
            result_owner: None,
            report_path: report_path(),
            log: LogCaps::default(),
            silence_limit_seconds: None,
            disk_limit_bytes: None,
        }
    }
}

fn timeout_grace() -> u32 {
    10
}

fn cancel_grace() -> u32 {
    3
}

fn ping_timeout() -> u32 {
    30
}

fn sample_interval() -> u32 {
    250
}

fn result_dir() -> String {
    RESULT_DIR.to_owned()
}

fn report_path() -> String {
    REPORT_PATH.to_owned()
}

/// A command of the builder: one JSON object per line on the supervisor's stdin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum SupervisorCommand {
    /// Does nothing but show that the builder is still there.
    Ping,
    /// Ends everything, as the requester cancelled the build.
    Cancel,
}

/// A notice to the builder: one JSON object per line on the supervisor's stderr.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// A step was started.
    StepStarted {
        /// Name of the step, from the plan.
        name: String,
        /// When it began: RFC 3339, UTC.
        start: String,
    },
    /// A stage began. Its `seconds` are not known yet.
    Stage(StageMark),
    /// The counters, once per sample interval. Left out while older notices wait for their reader.
    Sample(Sample),
    /// A step's process ended.
    StepEnded(StepReport),
    /// The next step waits until the builder has done this to the network.
    Network {
        /// State of the network that the next step needs.
        wanted: Network,
    },
    /// Everything known at the end; no notice follows.
    Report(Box<Report>),
}

/// Memory counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Anonymous and shared memory now, in bytes.
    pub memory_bytes: u64,
    /// The highest `memory_bytes` so far.
    pub peak_memory_bytes: u64,
    /// Processes ended by the out-of-memory killer so far.
    pub oom_kills: u64,
    /// Bytes of log so far.
    pub log_bytes: u64,
    /// Bytes that the build has added to the root file system; absent when it is not measured.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
    /// Bytes that came in over the container's network so far.
    #[serde(default)]
    pub received_bytes: u64,
}

/// A stage and where it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageMark {
    /// A word of the glossary: `buildroot`, `dependencies`, `prep`, `build`, `install`, `check`, `package`.
    pub stage: String,
    /// When it began: RFC 3339, UTC.
    pub start: String,
    /// How long it took; absent while it runs.
    #[serde(default)]
    pub seconds: Option<f64>,
    /// Offset in the log of the line that began it, in bytes.
    pub log_offset: u64,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Name of the step, from the plan.
    pub name: String,
    /// How its process ended.
    pub end: StepEnd,
    /// When it began: RFC 3339, UTC.
    pub start: String,
    /// How long its process ran.
    pub seconds: f64,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepEnd {
    /// It exited with this code.
    Exit(i32),
    /// This signal ended it.
    Signal(i32),
    /// It could not be started, for this reason.
    NotStarted(String),
}

/// A limit that the supervisor enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitHit {
    /// Wall time of the whole tree.
    Time,
    /// Time without output of the step.
    Silence,
    /// Size of the log.
    Log,
    /// Bytes added to the root file system.
    Disk,
}

/// Everything the supervisor knows at the end. Counters read from outside after the end are zero, so
/// this is their only source.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The steps that were run, in order.
    pub steps: Vec<StepReport>,
    /// The stages seen, in order.
    pub stages: Vec<StageMark>,
    /// The stage in which it ended.
    pub last_stage: Option<String>,
    /// The limit that ended it; the first one where several were hit.
    pub limit_hit: Option<LimitHit>,
    /// A cancel order, SIGINT or SIGTERM ended it.
    pub cancelled: bool,
    /// The builder was gone: end of input, or no order for the ping timeout.
    pub abandoned: bool,
    /// Highest anonymous and shared memory sampled, in bytes.
    pub peak_memory_bytes: u64,
    /// The kernel's own peak, which counts page cache; absent where it has none.
    pub peak_memory_with_cache_bytes: Option<u64>,
    /// The memory limit as the container sees it; absent when there is none.
    pub memory_limit_bytes: Option<u64>,
    /// Processes ended by the out-of-memory killer since the start.
    pub oom_kills: u64,
    /// Whether the memory in use ever reached the limit; absent where no counter says.
    pub memory_limit_reached: Option<bool>,
    /// Processor time of the whole container, in seconds.
    pub cpu_seconds: f64,
    /// From the supervisor's start to the report, in seconds.
    pub wall_seconds: f64,
    /// Bytes that the build added to the root file system, as last measured; absent when it was not measured.
    pub disk_bytes: Option<u64>,
    /// Least free space of the host's file system, in bytes; absent when it was not measured.
    pub lowest_free_bytes: Option<u64>,
    /// Bytes received over the container's network; absent where the supervisor does not count them.
    pub received_bytes: Option<u64>,
    /// Rounds of dynamic build requirements.
    pub rounds: u32,
    /// Bytes of log that the build wrote, including those that were left out.
    pub log_bytes: u64,
    /// Bytes of the stored log that its reader had not read at the last deadline.
    pub log_bytes_unread: u64,
    /// Failures of the supervisor itself, one sentence each.
    pub faults: Vec<String>,
}

impl Report {
    /// The exit code of the last step that ran, where it had one.
    pub fn exit_code(&self) -> Option<i32> {
        match self.steps.last()?.end {
            StepEnd::Exit(code) => Some(code),
            StepEnd::Signal(signal) => Some(128 + signal),
            StepEnd::NotStarted(_) => None,
        }
    }

    /// Whether the wall limit ended it.
    pub fn timed_out(&self) -> bool {
        self.limit_hit == Some(LimitHit::Time)
    }

    /// Whether every step that was run exited with 0 and nothing ended the sandbox early.
    pub fn is_clean(&self) -> bool {
        self.limit_hit.is_none()
            && !self.cancelled
            && !self.abandoned
            && !self.steps.is_empty()
            && self.steps.iter().all(|step| step.end == StepEnd::Exit(0))
    }
}

/// Findings of the self-test, as one JSON line on stdout.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SelfTestFacts {
    /// The memory limit as the container sees it.
    pub memory_limit_bytes: Option<u64>,
    /// Whether the process that touched more than the limit was not killed.
    pub hog_survived: bool,
    /// The signal that ended it.
    pub hog_signal: Option<i32>,
    /// Processes ended by the out-of-memory killer.
    pub oom_kills: u64,
    /// Whether it was not killed because part of it was swapped out.
    pub survived_by_swap: bool,
    /// A device node made on the root file system could be opened; absent when none could be made.
    pub device_node_opens: Option<bool>,
    /// The effective capabilities, in hexadecimal.
    pub capabilities: Option<String>,
    /// No process may gain privileges.
    pub no_new_privileges: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_of_steps_and_limit_has_the_documented_defaults() {
        let plan: Plan = serde_json::from_str(
            r#"{"steps":[{"name":"rebuild","argv":["mock"]}],"wall_limit_seconds":60}"#,
        )
        .unwrap();
        let step = Step {
            name: "rebuild".into(),
            argv: vec!["mock".into()],
            arguments_from: None,
            env: Vec::new(),
            stage: None,
            network: None,
            rounds: None,
        };
        assert_eq!(plan, Plan::new(vec![step], 60));
        assert_eq!(
            (plan.timeout_grace_seconds, plan.cancel_grace_seconds),
            (10, 3)
        );
    }

    #[test]
    fn lines_are_readable() {
        assert_eq!(
            serde_json::to_string(&SupervisorCommand::Ping).unwrap(),
            r#"{"order":"ping"}"#
        );
        let ended = Notice::StepEnded(StepReport {
            name: "rebuild".into(),
            end: StepEnd::Exit(1),
            start: "2026-01-01T00:00:00.000Z".into(),
            seconds: 1.5,
        });
        let line = serde_json::to_string(&ended).unwrap();
        assert_eq!(
            line,
            r#"{"notice":"step_ended","name":"rebuild","end":{"exit":1},"start":"2026-01-01T00:00:00.000Z","seconds":1.5}"#
        );
        assert_eq!(serde_json::from_str::<Notice>(&line).unwrap(), ended);
    }

    #[test]
    fn a_report_of_a_newer_supervisor_still_reads() {
        let report: Report = serde_json::from_str(r#"{"limit_hit":"time","later":1}"#).unwrap();
        assert!(report.timed_out() && !report.is_clean());
    }

    #[test]
    fn a_plan_survives_its_journey_with_all_that_it_can_hold() {
        let step = |name: &str| Step {
            name: name.into(),
            argv: vec!["mock".into(), "--rebuild".into()],
            arguments_from: Some(REPOSITORIES_PATH.into()),
            env: vec![("A".into(), "b=c".into())],
            stage: Some("build".into()),
            network: Some(Network::Cut),
            rounds: None,
        };
        let rounds = Rounds {
            exit_codes: vec![11],
            folder: "/var/lib/mock/*/root".into(),
            suffix: ".buildreqs.nosrc.rpm".into(),
            install: Box::new(step("requires")),
            at_most: 10,
        };
        let mut plan = Plan::new(vec![step("a"), step("b")], 60);
        plan.steps[1].rounds = Some(rounds);
        plan.result_owner = Some(Owner { uid: 1, gid: 2 });
        plan.disk_limit_bytes = Some(1 << 30);
        plan.silence_limit_seconds = Some(5);
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        assert!(text.contains(r#""network":"cut""#), "{text}");
    }

    #[test]
    fn a_plan_of_an_older_builder_has_limits_on_its_log() {
        let text = r#"{"steps":[],"wall_limit_seconds":1,"log":{"head_bytes":10},"later":[]}"#;
        let plan: Plan = serde_json::from_str(text).unwrap();
        assert_eq!(plan.log.head_bytes, 10);
        assert_eq!(plan.log.hard_bytes, LogCaps::default().hard_bytes);
        assert_eq!(
            (plan.ping_timeout_seconds, plan.sample_interval_ms),
            (30, 250)
        );
        assert_eq!(plan.result_dir, RESULT_DIR);
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        for text in [
            "",
            "[]",
            r#"{"steps":[]}"#,
            r#"{"wall_limit_seconds":60}"#,
            r#"{"steps":[{"name":"a"}],"wall_limit_seconds":60}"#,
            r#"{"steps":[],"wall_limit_seconds":-1}"#,
            r#"{"steps":[],"wall_limit_seconds":60,"result_owner":{"uid":0}}"#,
        ] {
            assert!(serde_json::from_str::<Plan>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn notices_of_a_hostile_program_are_no_notices() {
        for line in [
            "",
            "{}",
            r#"{"notice":"dance"}"#,
            r#"{"notice":"step_ended","name":"a"}"#,
            r#"{"notice":"network","wanted":"open"}"#,
            r#"{"notice":"sample","memory_bytes":-1,"peak_memory_bytes":0,"oom_kills":0,"log_bytes":0}"#,
            r#"{"notice":["report"]}"#,
            "\u{0}",
        ] {
            assert!(serde_json::from_str::<Notice>(line).is_err(), "{line:?}");
        }
        assert!(serde_json::from_slice::<Notice>(b"{\"notice\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_sample_of_an_older_supervisor_still_reads() {
        let line = r#"{"notice":"sample","memory_bytes":1,"peak_memory_bytes":2,"oom_kills":3,"log_bytes":4}"#;
        let sample = Sample {
            memory_bytes: 1,
            peak_memory_bytes: 2,
            oom_kills: 3,
            log_bytes: 4,
            disk_bytes: None,
            received_bytes: 0,
        };
        let notice: Notice = serde_json::from_str(line).unwrap();
        assert_eq!(notice, Notice::Sample(sample));
    }

    fn ended(ends: &[StepEnd]) -> Report {
        let step = |end: &StepEnd| StepReport {
            name: "s".into(),
            end: end.clone(),
            start: String::new(),
            seconds: 0.0,
        };
        Report {
            steps: ends.iter().map(step).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn the_exit_code_is_the_last_steps() {
        let not_started = StepEnd::NotStarted("no such file".into());
        assert_eq!(ended(&[]).exit_code(), None);
        assert_eq!(
            ended(&[StepEnd::Exit(0), StepEnd::Exit(30)]).exit_code(),
            Some(30)
        );
        assert_eq!(
            ended(&[StepEnd::Exit(1), StepEnd::Signal(9)]).exit_code(),
            Some(137)
        );
        assert_eq!(ended(&[StepEnd::Exit(0), not_started]).exit_code(), None);
    }

    #[test]
    fn a_report_is_clean_when_all_steps_exited_with_0_and_nothing_ended_them() {
        let clean = ended(&[StepEnd::Exit(0), StepEnd::Exit(0)]);
        assert!(clean.is_clean() && !clean.timed_out());
        assert!(!ended(&[]).is_clean());
        assert!(!ended(&[StepEnd::Exit(0), StepEnd::Signal(9)]).is_clean());
        for (cancelled, abandoned, limit_hit) in [
            (true, false, None),
            (false, true, None),
            (false, false, Some(LimitHit::Disk)),
        ] {
            let report = Report {
                limit_hit,
                cancelled,
                abandoned,
                ..clean.clone()
            };
            assert!(!report.is_clean());
        }
    }
}
