//! Versions side by side: what a release said is said again to the present programs, in both directions.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

mod old_builder;
mod old_frontend;
mod record;

/// Releases that may still run beside the present one.
const RELEASES: [&str; 1] = ["0.1.0"];

/// Recordings of each release, and the fixtures they were made with.
const BUILDS: [(&str, &str); 3] = [
    ("succeeded", "hello"),
    ("failed", "compile-error"),
    ("cancelled", "sleeper"),
];
