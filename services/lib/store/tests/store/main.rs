//! The store against a real PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accept;
mod aside;
mod backlog;
mod cancel;
mod chroots;
mod claim;
mod fairness;
mod hindrance;
mod house;
mod keep;
mod lease;
mod migrations;
mod pollers;
mod pollers_lost;
mod raise;
mod reads;
mod release;
mod reservation;
mod silence;
mod submit;
mod sweep;
mod turns;
mod unavailable;
mod usage;
mod walk;
