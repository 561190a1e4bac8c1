//! Settings after checking: real types, and contradictions refused at start with a sentence each.

use millrace_chassis::{Guard, path_segment};
use millrace_domain::{FileName, Limits, LimitsPolicy, MemoryClasses, Name, Token};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::background::result_checker::check_template;
use crate::config::args::{
    CapArgs, Config, FairnessArgs, KeepArgs, LeaseArgs, LegacyArgs, LimitArgs,
};

/// The shortest token that is let in.
const MIN_TOKEN_LENGTH: usize = 8;

/// A setting is missing or contradicts another one.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A setting without a default was not given.
    #[error("{0} is not set; see --help")]
    Missing(&'static str),
    /// A setting makes no sense.
    #[error("{name}: {reason}")]
    Wrong {
        /// The environment variable.
        name: &'static str,
        /// What is wrong, and what would do.
        reason: String,
    },
}

/// What a serving frontend was told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// As it was given: addresses, caps and times.
    pub config: Config,
    /// PostgreSQL.
    pub database_url: SecretString,
    /// RabbitMQ.
    pub amqp_url: SecretString,
    /// The result store.
    pub results_url: String,
    /// Every write needs it.
    pub admin_token: Token,
    /// Builders enrol with it.
    pub enrol_token: Token,
    /// Defaults and bounds of limits.
    pub limits: LimitsPolicy,
    /// Routes by memory.
    pub memory_classes: MemoryClasses,
    /// Links that are told to others.
    pub links: Links,
    /// Addresses that sources may have.
    pub guard: Guard,
}

/// Builds links under the public URL.
#[derive(Debug, Clone)]
pub struct Links {
    base: String,
}

impl Settings {
    /// Checks all settings against each other.
    pub fn check(config: Config) -> Result<Self, SettingsError> {
        let (admin_token, enrol_token) = tokens(&config)?;
        check_leases(&config.leases)?;
        check_caps(&config.caps)?;
        check_fairness(&config.fairness)?;
        check_keep(&config.keep)?;
        check_legacy(&config.legacy)?;
        check_connections(&config)?;
        if config.database_connections < 2 {
            return Err(wrong(
                "MILLRACE_DATABASE_CONNECTIONS",
                "at least 2 are needed",
            ));
        }
        Ok(Self {
            database_url: required(config.database_url.as_ref(), "MILLRACE_DATABASE_URL")?,
            amqp_url: required(config.amqp_url.as_ref(), "MILLRACE_AMQP_URL")?,
            results_url: config
                .results_url
                .clone()
                .ok_or(SettingsError::Missing("MILLRACE_RESULTS_URL"))?,
            admin_token,
            enrol_token,
            limits: limits(&config.limits)?,
            memory_classes: classes(&config.limits)?,
            links: Links::new(&config.public_url)?,
            guard: Guard::new(config.fetch.fetch_allow.clone()),
            config,
        })
    }
}

impl Links {
    /// Links under this base, which must be an absolute http(s) URL.
    pub fn new(base: &str) -> Result<Self, SettingsError> {
        let url = Url::parse(base)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.query().is_none());
        if url.is_none() {
            return Err(wrong(
                "MILLRACE_PUBLIC_URL",
                "expected an absolute http:// or https:// URL",
            ));
        }
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
        })
    }

    /// A link to a path that begins with a slash.
    pub fn to(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// What a poller of 2012 is given as the frontend's address.
    pub fn poller(&self, token: &Token) -> String {
        self.to(&format!("/legacy/{}/backend", token.expose()))
    }

    /// Where an uploaded source can be read.
    pub fn source(&self, owner: &Name, project: &Name, sha256: &str, name: &FileName) -> String {
        let name = path_segment(name.as_str());
        self.to(&format!(
            "/results/{owner}/{project}/sources/{sha256}/{name}"
        ))
    }
}

fn wrong(name: &'static str, reason: impl Into<String>) -> SettingsError {
    SettingsError::Wrong {
        name,
        reason: reason.into(),
    }
}

fn required(
    value: Option<&SecretString>,
    name: &'static str,
) -> Result<SecretString, SettingsError> {
    value
        .filter(|secret| !secret.expose_secret().is_empty())
        .cloned()
        .ok_or(SettingsError::Missing(name))
}

fn tokens(config: &Config) -> Result<(Token, Token), SettingsError> {
    let token = |value: Option<&SecretString>, name| {
        let secret = required(value, name)?;
        if secret.expose_secret().len() < MIN_TOKEN_LENGTH {
            return Err(wrong(
                name,
                format!("a token has at least {MIN_TOKEN_LENGTH} characters"),
            ));
        }
        Ok(Token::new(secret.expose_secret()))
    };
    let admin = token(config.token.as_ref(), "MILLRACE_TOKEN")?;
    let enrol = token(config.enrol_token.as_ref(), "MILLRACE_ENROL_TOKEN")?;
    if admin.hash() == enrol.hash() {
        return Err(wrong(
            "MILLRACE_ENROL_TOKEN",
            "must differ from MILLRACE_TOKEN, builders would be administrators",
        ));
    }
    Ok((admin, enrol))
}

fn check_leases(leases: &LeaseArgs) -> Result<(), SettingsError> {
    if leases.heartbeat_seconds == 0 {
        return Err(wrong("MILLRACE_HEARTBEAT_SECONDS", "at least 1"));
    }
    if leases.lease_seconds < leases.heartbeat_seconds.saturating_mul(3) {
        return Err(wrong(
            "MILLRACE_LEASE_SECONDS",
            "shorter than three heartbeats, one lost packet would end builds",
        ));
    }
    if leases.silent_seconds <= leases.heartbeat_seconds.saturating_mul(2) {
        return Err(wrong(
            "MILLRACE_SILENT_SECONDS",
            "not longer than two heartbeats, one lost packet would count as silence",
        ));
    }
    if leases.finish_lease_seconds < leases.lease_seconds {
        return Err(wrong(
            "MILLRACE_FINISH_LEASE_SECONDS",
            "shorter than MILLRACE_LEASE_SECONDS",
        ));
    }
    if leases.offer_seconds < leases.lease_seconds {
        return Err(wrong(
            "MILLRACE_OFFER_SECONDS",
            "shorter than MILLRACE_LEASE_SECONDS",
        ));
    }
    Ok(())
}

fn check_fairness(fairness: &FairnessArgs) -> Result<(), SettingsError> {
    if fairness.priority_age_seconds == 0 {
        return Err(wrong("MILLRACE_PRIORITY_AGE_SECONDS", "at least 1"));
    }
    if fairness.owner_running == 0 {
        return Err(wrong("MILLRACE_OWNER_RUNNING", "at least 1"));
    }
    Ok(())
}

fn check_keep(keep: &KeepArgs) -> Result<(), SettingsError> {
    // The database reckons in signed 32-bit numbers, and its calendar begins 6,700 years ago.
    for (name, days) in [
        ("MILLRACE_KEEP_KEYS_DAYS", keep.keep_keys_days),
        ("MILLRACE_KEEP_PARKED_DAYS", keep.keep_parked_days),
        ("MILLRACE_KEEP_LOGS_DAYS", keep.keep_logs_days),
        ("MILLRACE_KEEP_BUILDERS_DAYS", keep.keep_builders_days),
    ] {
        if !(1..=1_000_000).contains(&days) {
            return Err(wrong(name, "at least 1 day and at most 1000000 days"));
        }
    }
    for (name, value, least) in [
        (
            "MILLRACE_STAGING_HOURS",
            keep.staging_hours,
            "at least 1 hour",
        ),
        (
            "MILLRACE_KEEP_ORPHAN_SOURCES_HOURS",
            keep.keep_orphan_sources_hours,
            "at least 1 hour",
        ),
        (
            "MILLRACE_KEEP_PARKED",
            keep.keep_parked,
            "at least 1 message",
        ),
        ("MILLRACE_KEEP_LOGS", keep.keep_logs, "at least 1 log"),
    ] {
        if value == 0 {
            return Err(wrong(name, least));
        }
    }
    Ok(())
}

fn check_legacy(legacy: &LegacyArgs) -> Result<(), SettingsError> {
    if legacy.legacy_silence_seconds == 0 {
        return Err(wrong("MILLRACE_LEGACY_SILENCE_SECONDS", "at least 1"));
    }
    if legacy.legacy_silence_seconds > 1 << 30 || legacy.legacy_margin_seconds > 1 << 30 {
        return Err(wrong(
            "MILLRACE_LEGACY_SILENCE_SECONDS, MILLRACE_LEGACY_MARGIN_SECONDS",
            "at most 1073741824",
        ));
    }
    check_template(&legacy.legacy_results_check).map(|_| ())
}

fn check_connections(config: &Config) -> Result<(), SettingsError> {
    if config.max_connections < 16 {
        return Err(wrong("MILLRACE_MAX_CONNECTIONS", "at least 16"));
    }
    if config.header_seconds == 0 {
        return Err(wrong("MILLRACE_HEADER_SECONDS", "at least 1"));
    }
    Ok(())
}

fn check_caps(caps: &CapArgs) -> Result<(), SettingsError> {
    if caps.max_sources == 0 {
        return Err(wrong("MILLRACE_MAX_SOURCES", "at least 1"));
    }
    if caps.max_json_bytes < 4096 {
        return Err(wrong("MILLRACE_MAX_JSON_BYTES", "at least 4096"));
    }
    if caps.max_upload_bytes == 0 || caps.max_result_bytes == 0 {
        return Err(wrong(
            "MILLRACE_MAX_UPLOAD_BYTES, MILLRACE_MAX_RESULT_BYTES",
            "at least 1",
        ));
    }
    Ok(())
}

fn limits(args: &LimitArgs) -> Result<LimitsPolicy, SettingsError> {
    let pair = |memory_mib, timeout_seconds| Limits {
        memory_mib,
        timeout_seconds,
    };
    let policy = LimitsPolicy {
        default: pair(args.default_memory_mb, args.default_timeout_seconds),
        min: pair(args.min_memory_mb, args.min_timeout_seconds),
        max: pair(args.max_memory_mb, args.max_timeout_seconds),
        max_disk_mib: args.max_disk_mb.min(1 << 30),
    };
    // The columns are signed 32-bit integers.
    if policy.max.memory_mib > 1 << 30 || policy.max.timeout_seconds > 1 << 30 {
        return Err(wrong(
            "MILLRACE_MAX_MEMORY_MB, MILLRACE_MAX_TIMEOUT_SECONDS",
            "at most 1073741824",
        ));
    }
    policy.check().map_err(|error| {
        wrong(
            if error.field == "timeout" {
                "MILLRACE_DEFAULT_TIMEOUT_SECONDS"
            } else {
                "MILLRACE_DEFAULT_MEMORY_MB"
            },
            format!("the default contradicts the bounds: {error}"),
        )
    })?;
    Ok(policy)
}

fn classes(args: &LimitArgs) -> Result<MemoryClasses, SettingsError> {
    let ends = &args.memory_classes_gib;
    let fits = ends.len() <= 16 && ends.iter().all(|gib| *gib <= 1 << 20);
    fits.then(|| MemoryClasses::from_upper_ends(ends))
        .flatten()
        .ok_or_else(|| {
            wrong(
                "MILLRACE_MEMORY_CLASSES_GIB",
                "expected at most 16 rising numbers from 1, such as 2,4,8,16,32,64",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn check(more: &[&str]) -> Result<Settings, SettingsError> {
        let base = [
            "x",
            "--database-url=postgres://u:p@h/d",
            "--amqp-url=amqp://u:p@h/v",
            "--results-url=file:///r",
            "--token=admin-token",
            "--enrol-token=enrol-token",
        ];
        let cli = crate::config::args::Cli::parse_from(base.iter().chain(more));
        Settings::check(cli.config)
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let settings = check(&[]).unwrap();
        assert_eq!(settings.limits, LimitsPolicy::default());
        assert_eq!(settings.memory_classes, MemoryClasses::default());
        assert_eq!(settings.config.caps.max_json_bytes, 1_048_576);
        assert_eq!(settings.config.caps.max_upload_bytes, 2_147_483_648);
    }

    #[test]
    fn contradictions_are_refused_by_the_name_of_the_variable() {
        for (flags, name) in [
            (
                &["--default-memory-mb=100"][..],
                "MILLRACE_DEFAULT_MEMORY_MB",
            ),
            (
                &["--min-timeout-seconds=3600"],
                "MILLRACE_DEFAULT_TIMEOUT_SECONDS",
            ),
            (&["--lease-seconds=5"], "MILLRACE_LEASE_SECONDS"),
            (
                &["--legacy-results-check=http://x"],
                "MILLRACE_LEGACY_RESULTS_CHECK",
            ),
            (
                &["--legacy-silence-seconds=0"],
                "MILLRACE_LEGACY_SILENCE_SECONDS",
            ),
            (&["--max-connections=1"], "MILLRACE_MAX_CONNECTIONS"),
            (
                &["--finish-lease-seconds=5"],
                "MILLRACE_FINISH_LEASE_SECONDS",
            ),
            (&["--memory-classes-gib=4,2"], "MILLRACE_MEMORY_CLASSES_GIB"),
            (&["--keep-logs-days=0"], "MILLRACE_KEEP_LOGS_DAYS"),
            (
                &["--keep-parked=0"],
                "MILLRACE_KEEP_PARKED: at least 1 message",
            ),
            (
                &["--staging-hours=0"],
                "MILLRACE_STAGING_HOURS: at least 1 hour",
            ),
            (
                &["--keep-keys-days=1000001"],
                "MILLRACE_KEEP_KEYS_DAYS: at least 1 day and",
            ),
            (&["--public-url=localhost:1"], "MILLRACE_PUBLIC_URL"),
            (
                &["--database-connections=1"],
                "MILLRACE_DATABASE_CONNECTIONS",
            ),
        ] {
            let error = check(flags).unwrap_err().to_string();
            assert!(error.contains(name), "{flags:?}: {error}");
        }
    }

    #[test]
    fn links_have_one_slash_and_an_escaped_name() {
        let links = Links::new("http://h:1/").unwrap();
        let (owner, name) = ("main".parse().unwrap(), "a^1-1.src.rpm".parse().unwrap());
        assert_eq!(
            links.source(&owner, &owner, "00", &name),
            "http://h:1/results/main/main/sources/00/a%5E1-1.src.rpm"
        );
    }
}
