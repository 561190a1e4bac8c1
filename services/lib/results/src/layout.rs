//! The names of objects. Nothing but these functions makes a path, and they take only types that are safe.

use millrace_domain::{AttemptId, FileName};
use object_store::path::Path;
use uuid::Uuid;

use crate::digest::Sha256;
use crate::error::ResultError;

/// Names one file of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttemptFile {
    /// The attempt that made it.
    pub attempt: AttemptId,
    /// The package's position in the build.
    pub position: u32,
    /// Name of the file, unique within its package.
    pub name: FileName,
}

/// The folder of unfinished uploads.
pub(crate) const STAGING: &str = "staging";
/// The folder of attempts' files.
pub(crate) const ATTEMPTS: &str = "attempts";
/// The folder of uploaded sources.
pub(crate) const SOURCES: &str = "sources";

/// Digits of an offset in a chunk's name, enough for any `u64`, so that names sort like numbers.
const OFFSET_DIGITS: usize = 20;

/// Path of an uploaded source, below a folder of its first two digits.
pub(crate) fn source(sha256: &Sha256) -> Result<Path, ResultError> {
    let text = sha256.as_str();
    parse(format!(
        "{SOURCES}/{}/{text}",
        text.get(..2).unwrap_or("00")
    ))
}

/// All files of an attempt.
pub(crate) fn attempt(attempt: AttemptId) -> Result<Path, ResultError> {
    parse(format!("{ATTEMPTS}/{attempt}"))
}

/// One file of an attempt.
pub(crate) fn attempt_file(file: &AttemptFile) -> Result<Path, ResultError> {
    parse(format!(
        "{ATTEMPTS}/{}/{}/{}",
        file.attempt, file.position, file.name
    ))
}

/// All objects of a log.
pub(crate) fn log(attempt: AttemptId) -> Result<Path, ResultError> {
    parse(format!("logs/{attempt}"))
}

/// The chunk of a log that starts at an offset.
pub(crate) fn log_chunk(attempt: AttemptId, offset: u64) -> Result<Path, ResultError> {
    parse(format!("logs/{attempt}/{offset:0OFFSET_DIGITS$}"))
}

/// The whole log after sealing.
pub(crate) fn sealed_log(attempt: AttemptId) -> Result<Path, ResultError> {
    parse(format!("logs/{attempt}/log"))
}

/// The offset in a chunk's name; none for other objects.
pub(crate) fn chunk_offset(path: &Path) -> Option<u64> {
    let name = path.filename()?;
    if name.len() == OFFSET_DIGITS && name.bytes().all(|byte| byte.is_ascii_digit()) {
        name.parse().ok()
    } else {
        None
    }
}

/// A new place for an unfinished upload.
pub(crate) fn staging() -> Result<Path, ResultError> {
    parse(format!("{STAGING}/{}", Uuid::new_v4()))
}

fn parse(text: String) -> Result<Path, ResultError> {
    Path::parse(&text).map_err(|error| ResultError::Store {
        what: text,
        source: error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_as_the_readme_says() {
        let sha256: Sha256 = "ab".repeat(32).parse().unwrap();
        assert_eq!(
            source(&sha256).unwrap().as_ref(),
            format!("sources/ab/{sha256}")
        );
        let id: AttemptId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let file = AttemptFile {
            attempt: id,
            position: 3,
            name: "a+b-1~rc1^git-1.x86_64.rpm".parse().unwrap(),
        };
        assert_eq!(
            attempt_file(&file).unwrap().as_ref(),
            format!("attempts/{id}/3/a+b-1~rc1^git-1.x86_64.rpm")
        );
        assert_eq!(
            log_chunk(id, 7).unwrap().as_ref(),
            format!("logs/{id}/00000000000000000007")
        );
        assert_eq!(chunk_offset(&sealed_log(id).unwrap()), None);
        assert!(staging().unwrap().as_ref().starts_with("staging/"));
    }

    proptest! {
        #[test]
        fn chunk_names_sort_like_their_offsets(a in any::<u64>(), b in any::<u64>()) {
            let id = AttemptId::generate();
            let (first, second) = (log_chunk(id, a).unwrap(), log_chunk(id, b).unwrap());
            prop_assert_eq!(first.cmp(&second), a.cmp(&b));
            prop_assert_eq!(chunk_offset(&first), Some(a));
        }

        #[test]
        fn every_accepted_file_name_stays_in_its_attempts_folder(name in "[0-9A-Za-z][0-9A-Za-z_.+~^-]{0,199}", position in any::<u32>()) {
            let id = AttemptId::generate();
            let file = AttemptFile { attempt: id, position, name: name.parse().unwrap() };
            let path = attempt_file(&file).unwrap();
            prop_assert!(path.prefix_matches(&attempt(id).unwrap()));
            prop_assert_eq!(path.parts().count(), 4);
            prop_assert_eq!(path.filename(), Some(name.as_str()));
        }
    }
}
