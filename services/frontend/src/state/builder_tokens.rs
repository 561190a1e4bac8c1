//! Cache of builder tokens: digest of the token to builder id. It saves each heartbeat, claim and upload a look-up in
//! the database. Entries expire soon, so that a token that another frontend has replaced stops to work everywhere.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use millrace_domain::{BuilderId, TokenHash};

/// How long an entry is used without asking the database again.
const LIFETIME: Duration = Duration::from_secs(30);
/// Entries at most; while there are so many, further tokens are looked up in the database each time.
const MAX_ENTRIES: usize = 10_000;

/// Tokens of builders that sent a request within the last half minute.
#[derive(Default)]
pub struct BuilderTokens(Mutex<HashMap<[u8; 32], (BuilderId, Instant)>>);

impl BuilderTokens {
    /// The builder with this token, where the cache has it.
    pub fn get(&self, hash: TokenHash) -> Option<BuilderId> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .get(&hash.0)
            .filter(|(_, added)| added.elapsed() < LIFETIME)
            .map(|(id, _)| *id)
    }

    /// Adds what the database said of a token; expired entries make room.
    pub fn put(&self, hash: TokenHash, id: BuilderId) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_ENTRIES {
            entries.retain(|_, (_, added)| added.elapsed() < LIFETIME);
        }
        if entries.len() < MAX_ENTRIES {
            entries.insert(hash.0, (id, Instant::now()));
        }
    }

    /// Removes a builder's tokens: it has enrolled again and got a new one.
    pub fn forget(&self, id: BuilderId) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, (other, _)| *other != id);
    }
}

#[cfg(test)]
mod tests {
    use millrace_domain::Token;

    use super::*;

    #[test]
    fn a_builder_that_enrols_anew_loses_its_old_token() {
        let tokens = BuilderTokens::default();
        let (id, hash) = (BuilderId::generate(), Token::new("x").hash());
        tokens.put(hash, id);
        assert_eq!(tokens.get(hash), Some(id));
        tokens.forget(id);
        assert_eq!(tokens.get(hash), None);
    }
}
