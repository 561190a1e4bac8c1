//! Bounds of settings and contradictions between them, by group.

use crate::config::args::{CapArgs, Config, FairnessArgs, KeepArgs, LeaseArgs, LegacyArgs};
use crate::config::error::SettingsError;

/// Times between frontend and builders: each must leave room for a lost packet of the shorter one.
pub fn validate_leases(leases: &LeaseArgs) -> Result<(), SettingsError> {
    if leases.heartbeat_seconds == 0 {
        return Err(SettingsError::wrong(
            "MILLRACE_HEARTBEAT_SECONDS",
            "at least 1",
        ));
    }
    if leases.lease_seconds < leases.heartbeat_seconds.saturating_mul(3) {
        return Err(SettingsError::wrong(
            "MILLRACE_LEASE_SECONDS",
            "must be at least three heartbeats, or one lost packet would end builds",
        ));
    }
    if leases.silent_seconds <= leases.heartbeat_seconds.saturating_mul(2) {
        return Err(SettingsError::wrong(
            "MILLRACE_SILENT_SECONDS",
            "must be more than two heartbeats, or one lost packet would count as silence",
        ));
    }
    if leases.finish_lease_seconds < leases.lease_seconds {
        return Err(SettingsError::wrong(
            "MILLRACE_FINISH_LEASE_SECONDS",
            "must be at least MILLRACE_LEASE_SECONDS",
        ));
    }
    if leases.offer_seconds < leases.lease_seconds {
        return Err(SettingsError::wrong(
            "MILLRACE_OFFER_SECONDS",
            "must be at least MILLRACE_LEASE_SECONDS",
        ));
    }
    Ok(())
}

/// Numbers by which tasks are chosen.
pub fn validate_fairness(fairness: &FairnessArgs) -> Result<(), SettingsError> {
    if fairness.priority_age_seconds == 0 {
        return Err(SettingsError::wrong(
            "MILLRACE_PRIORITY_AGE_SECONDS",
            "at least 1",
        ));
    }
    if fairness.owner_running == 0 {
        return Err(SettingsError::wrong("MILLRACE_OWNER_RUNNING", "at least 1"));
    }
    Ok(())
}

/// Retention: bounds that neither delete everything nor overflow the database's numbers.
pub fn validate_keep(keep: &KeepArgs) -> Result<(), SettingsError> {
    // The database computes in signed 32-bit numbers, and its calendar begins 6,700 years ago.
    for (name, days) in [
        ("MILLRACE_KEEP_KEYS_DAYS", keep.keep_keys_days),
        ("MILLRACE_KEEP_PARKED_DAYS", keep.keep_parked_days),
        ("MILLRACE_KEEP_LOGS_DAYS", keep.keep_logs_days),
        ("MILLRACE_KEEP_BUILDERS_DAYS", keep.keep_builders_days),
    ] {
        if !(1..=1_000_000).contains(&days) {
            return Err(SettingsError::wrong(
                name,
                "at least 1 day and at most 1000000 days",
            ));
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
            return Err(SettingsError::wrong(name, least));
        }
    }
    Ok(())
}

/// Times of 2012 pollers.
pub fn validate_legacy(legacy: &LegacyArgs) -> Result<(), SettingsError> {
    if legacy.legacy_silence_seconds == 0 {
        return Err(SettingsError::wrong(
            "MILLRACE_LEGACY_SILENCE_SECONDS",
            "at least 1",
        ));
    }
    if legacy.legacy_silence_seconds > 1 << 30 || legacy.legacy_margin_seconds > 1 << 30 {
        return Err(SettingsError::wrong(
            "MILLRACE_LEGACY_SILENCE_SECONDS, MILLRACE_LEGACY_MARGIN_SECONDS",
            "at most 1073741824",
        ));
    }
    Ok(())
}

/// Connections of clients, and those to the database.
pub fn validate_connections(config: &Config) -> Result<(), SettingsError> {
    if config.max_connections < 16 {
        return Err(SettingsError::wrong(
            "MILLRACE_MAX_CONNECTIONS",
            "at least 16",
        ));
    }
    if config.database_connections < 2 {
        return Err(SettingsError::wrong(
            "MILLRACE_DATABASE_CONNECTIONS",
            "at least 2 are needed",
        ));
    }
    if config.header_seconds == 0 {
        return Err(SettingsError::wrong(
            "MILLRACE_HEADER_SECONDS",
            "at least 1",
        ));
    }
    Ok(())
}

/// Caps on what comes in.
pub fn validate_caps(caps: &CapArgs) -> Result<(), SettingsError> {
    if caps.max_sources == 0 {
        return Err(SettingsError::wrong("MILLRACE_MAX_SOURCES", "at least 1"));
    }
    if caps.max_json_bytes < 4096 {
        return Err(SettingsError::wrong(
            "MILLRACE_MAX_JSON_BYTES",
            "at least 4096",
        ));
    }
    if caps.max_upload_bytes == 0 || caps.max_result_bytes == 0 {
        return Err(SettingsError::wrong(
            "MILLRACE_MAX_UPLOAD_BYTES, MILLRACE_MAX_RESULT_BYTES",
            "at least 1",
        ));
    }
    Ok(())
}
