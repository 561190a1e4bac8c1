//! Exit codes of the program itself. It exits with 0 once its report has reached its file or its reader, whatever the build did.

/// An invalid plan, or a command line that is not understood (`EX_USAGE`).
pub(crate) const USAGE: u8 = 64;
/// The report reached neither its file nor its reader (`EX_IOERR`).
pub(crate) const UNREPORTED: u8 = 74;
