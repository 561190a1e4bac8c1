//! The pipeline while parts of it are killed, frozen, stopped or restarted: nothing is lost, doubled or left behind.

mod broker_away;
mod chaos;
mod database_away;
mod endurance;
mod faults;
mod invariants;
mod shutdown;
mod work_goes_on;
