//! The frontend as its clients see it: over HTTP, with a real database, and a real broker where one is needed.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on ends"
)]

mod bad_input;
mod legacy;
mod pipeline;
mod scripted_builder;
mod submission;
mod support;
