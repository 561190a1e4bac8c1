//! Every crash point of frontend and builder: the program dies there, is started again, and nothing is lost, nothing is
//! twice, nothing is stuck and nothing is left. A point that is never reached fails its test.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

mod check;
mod environment;
mod pollers;
mod scenes;
mod table;
