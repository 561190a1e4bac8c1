//! The store against a real PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accept;
mod availability;
mod backlog;
mod cancel;
mod chroots;
mod claim;
mod fair_share;
mod fair_share_many_owners;
mod harness;
mod image_holds;
mod lease;
mod migrations;
mod pollers;
mod pollers_lost;
mod raise;
mod random_operations;
mod reads;
mod release;
mod reservation;
mod retention;
mod revoke_silent;
mod submit;
mod sweep;
mod unavailable;
mod usage;
