//! The pipeline in use: builds, limits, cancels, fairness, pollers of 2012 and disks that are full, with every service up.

mod cancel;
mod chroots;
mod end_to_end;
mod fairness;
mod finish_line;
mod idle;
mod input;
mod legacy;
mod logs;
mod network;
mod outcomes;
mod packages;
mod parked;
mod raise;
mod repositories;
mod soak;
