//! Settings for the limits of each sandbox.

use millrace_supervisor::LogCaps;

use crate::config::sandbox::SandboxCaps;

const MIB: u64 = 1 << 20;

/// Limits of each sandbox, beside the memory and the time that its build asks for.
#[derive(Debug, Clone, clap::Args)]
pub struct CapsArgs {
    /// Disk space that a build may use in its sandbox, in MiB; 0 means no limit
    #[arg(
        long,
        env = "MILLRACE_SANDBOX_DISK_MB",
        default_value_t = 20480,
        value_name = "MIB"
    )]
    pub sandbox_disk_mb: u32,
    /// Longest time that a build may run without output, in seconds; 0 means no limit
    #[arg(
        long,
        env = "MILLRACE_SANDBOX_SILENCE_SECONDS",
        default_value_t = 0,
        value_name = "SECONDS"
    )]
    pub sandbox_silence_seconds: u32,
    /// Most processes and threads of a sandbox, counted together
    #[arg(
        long,
        env = "MILLRACE_SANDBOX_PIDS",
        default_value_t = 8192,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(64..=4_194_304)
    )]
    pub sandbox_pids: u32,
    /// Processors of a sandbox, such as 2 or 1.5; make runs as many parallel jobs, rounded up [default: all]
    #[arg(long, env = "MILLRACE_SANDBOX_CPUS", value_name = "NUMBER", value_parser = processors)]
    pub sandbox_cpus: Option<f64>,
    /// Size of the beginning of a log that is stored, in MiB; it is streamed while the build runs
    #[arg(
        long,
        env = "MILLRACE_LOG_HEAD_MB",
        default_value_t = 48,
        value_name = "MIB",
        value_parser = clap::value_parser!(u32).range(1..=3072)
    )]
    pub log_head_mb: u32,
    /// Size of the end of a longer log that is stored, in MiB; it uses memory of the sandbox
    #[arg(
        long,
        env = "MILLRACE_LOG_TAIL_MB",
        default_value_t = 16,
        value_name = "MIB",
        value_parser = clap::value_parser!(u32).range(0..=128)
    )]
    pub log_tail_mb: u32,
    /// Log size at which a build is ended, in MiB
    #[arg(
        long,
        env = "MILLRACE_LOG_LIMIT_MB",
        default_value_t = 1024,
        value_name = "MIB",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub log_limit_mb: u32,
}

impl CapsArgs {
    /// The limits in bytes and seconds; a setting of 0 becomes none.
    pub fn caps(&self) -> SandboxCaps {
        let mib = |count: u32| u64::from(count) * MIB;
        SandboxCaps {
            log: LogCaps {
                head_bytes: mib(self.log_head_mb),
                tail_bytes: mib(self.log_tail_mb),
                hard_bytes: mib(self.log_limit_mb),
            },
            silence_seconds: (self.sandbox_silence_seconds > 0)
                .then_some(self.sandbox_silence_seconds),
            disk_bytes: (self.sandbox_disk_mb > 0).then(|| mib(self.sandbox_disk_mb)),
            pids: self.sandbox_pids,
            cpus: self.sandbox_cpus,
        }
    }
}

/// Parses a number of processors from 0.1 to 4096.
fn processors(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|cpus| (0.1..=4096.0).contains(cpus))
        .ok_or_else(|| "expected a number from 0.1 to 4096".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, Command, FromArgMatches};

    fn parse(args: &[&str]) -> Result<SandboxCaps, clap::Error> {
        let command = CapsArgs::augment_args(Command::new("test"));
        let matches = command.try_get_matches_from([&["test"], args].concat())?;
        Ok(CapsArgs::from_arg_matches(&matches)?.caps())
    }

    #[test]
    fn nothing_set_means_the_documented_limits() {
        let caps = parse(&[]).unwrap();
        assert_eq!(caps.log, LogCaps::default());
        assert_eq!(
            (caps.silence_seconds, caps.pids, caps.cpus),
            (None, 8192, None)
        );
        assert_eq!(caps.disk_bytes, Some(20 << 30));
    }

    #[test]
    fn none_and_nonsense_are_told_apart() {
        assert_eq!(parse(&["--sandbox-disk-mb", "0"]).unwrap().disk_bytes, None);
        assert_eq!(
            parse(&["--sandbox-cpus", "1.5"]).unwrap().make_jobs(),
            Some(2)
        );
        for bad in ["0", "-1", "NaN", "many"] {
            assert!(parse(&["--sandbox-cpus", bad]).is_err(), "{bad}");
        }
    }
}
