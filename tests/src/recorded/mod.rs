//! What a release and its peers said to each other, kept as files, to be said again to the present programs.

mod format;
mod proxy;
mod tap;

pub use format::{Body, Exchange, Message, Recording, covers, filler};
pub use proxy::Proxy;
pub use tap::Tap;
