//! Sources, result files and logs as bytes: the only crate that knows `object_store`.
#![doc = include_str!("../README.md")]

mod attempt;
mod digest;
mod error;
mod forget;
mod layout;
mod log;
mod range;
mod seal;
mod serve;
mod source;
mod staging;
mod store;

pub use attempt::Expected;
pub use digest::{InvalidDigest, Sha256};
pub use error::{BoxError, ResultError};
pub use layout::AttemptFile;
pub use log::LogPart;
pub use range::{Unsatisfiable, parse_range};
pub use serve::{ByteStream, StoredFile};
pub use source::StoredSource;
pub use store::ResultStore;
