//! Sandboxes on a real engine. Settings: `MILLRACE_TEST_ENGINE_URL`, `MILLRACE_TEST_PROFILE`,
//! `MILLRACE_TEST_SANDBOX_IMAGE` (any image with a shell and coreutils) and `MILLRACE_TEST_SUPERVISOR`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod abandoned;
mod collecting;
mod cutting;
mod ending;
mod harness;
mod limits;
mod memory;
mod running;
mod setting_up;
