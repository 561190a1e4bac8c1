//! Settings after checking: parsed to types of the domain, with contradictions refused at the start in a sentence each.

use millrace_chassis::Guard;
use millrace_domain::{Limits, LimitsPolicy, MemoryClasses, Token};
use secrecy::{ExposeSecret, SecretString};

use crate::config::args::{Config, LimitArgs};
use crate::config::error::SettingsError;
use crate::config::links::Links;
use crate::config::validate::{
    validate_caps, validate_connections, validate_fairness, validate_keep, validate_leases,
    validate_legacy,
};

/// The shortest token that is accepted, in bytes.
const MIN_TOKEN_LENGTH: usize = 8;

/// The checked settings of a frontend that serves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The settings as they were given; caps and times are read from here.
    pub config: Config,
    /// `MILLRACE_DATABASE_URL`, which is given and not empty.
    pub database_url: SecretString,
    /// `MILLRACE_AMQP_URL`, which is given and not empty.
    pub amqp_url: SecretString,
    /// `MILLRACE_RESULTS_URL`; the result store checks it when it is opened.
    pub results_url: String,
    /// The token that every write needs.
    pub admin_token: Token,
    /// The token with which builders enrol; never the admin token.
    pub enrol_token: Token,
    /// Defaults and bounds of memory, time and disk space of builds.
    pub limits: LimitsPolicy,
    /// Memory classes, which name the job queues.
    pub memory_classes: MemoryClasses,
    /// Template of the address that proves a poller's success; none where its word is enough.
    pub results_check: Option<String>,
    /// Builds absolute links under the public URL.
    pub links: Links,
    /// Refuses source URLs that lead to private addresses.
    pub guard: Guard,
}

impl Settings {
    /// Checks each setting and all against each other; the first contradiction is the error.
    pub fn check(config: Config) -> Result<Self, SettingsError> {
        let (admin_token, enrol_token) = tokens(&config)?;
        validate_leases(&config.leases)?;
        validate_caps(&config.caps)?;
        validate_fairness(&config.fairness)?;
        validate_keep(&config.keep)?;
        validate_legacy(&config.legacy)?;
        validate_connections(&config)?;
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
            results_check: results_check(&config.legacy.legacy_results_check)?,
            links: Links::new(&config.public_url)?,
            guard: Guard::new(config.fetch.fetch_allow.clone()),
            config,
        })
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
            return Err(SettingsError::wrong(
                name,
                format!("a token has at least {MIN_TOKEN_LENGTH} characters"),
            ));
        }
        Ok(Token::new(secret.expose_secret()))
    };
    let admin = token(config.token.as_ref(), "MILLRACE_TOKEN")?;
    let enrol = token(config.enrol_token.as_ref(), "MILLRACE_ENROL_TOKEN")?;
    if admin.hash() == enrol.hash() {
        return Err(SettingsError::wrong(
            "MILLRACE_ENROL_TOKEN",
            "must differ from MILLRACE_TOKEN, builders would be administrators",
        ));
    }
    Ok((admin, enrol))
}

/// The template of `MILLRACE_LEGACY_RESULTS_CHECK`; none where the check is off.
fn results_check(text: &str) -> Result<Option<String>, SettingsError> {
    if text.is_empty() || text == "off" {
        return Ok(None);
    }
    if text.starts_with("{results}") {
        return Ok(Some(text.to_owned()));
    }
    Err(SettingsError::wrong(
        "MILLRACE_LEGACY_RESULTS_CHECK",
        "expected 'off', or an address that begins with {results}, such as {results}/{chroot}/{package}/success",
    ))
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
    // The columns of the database are signed 32-bit integers.
    if policy.max.memory_mib > 1 << 30 || policy.max.timeout_seconds > 1 << 30 {
        return Err(SettingsError::wrong(
            "MILLRACE_MAX_MEMORY_MB, MILLRACE_MAX_TIMEOUT_SECONDS",
            "at most 1073741824",
        ));
    }
    policy.check().map_err(|error| {
        SettingsError::wrong(
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
            SettingsError::wrong(
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
    fn a_results_check_begins_with_the_pollers_address_or_is_off() {
        assert_eq!(results_check("off").unwrap(), None);
        let template = results_check("{results}/x").unwrap();
        assert_eq!(template.as_deref(), Some("{results}/x"));
        assert!(results_check("http://other/{chroot}").is_err());
    }
}
