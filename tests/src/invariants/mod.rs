//! What must be true of a pipeline that has come to rest, whatever was done to it: facts are gathered from the database,
//! the broker, the result store, the spools, the engine and the clients' journal; rules are pure functions over them.

mod bytes;
mod facts;
mod gather;
mod rules;

pub use facts::{
    Attempt, Build, Builder, Container, Facts, Package, Queue, ResultFile, Status, StoredFile, Task,
};
pub use gather::{Places, gather, still_moving};
pub use rules::{Harm, RULES, Rule, Violation, check};
