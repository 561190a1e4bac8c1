//! Deterministic tokens: HMAC of attempt id and nonce under a key that all frontends derive from the admin token. A
//! builder that repeats a claim because the answer was lost gets the same lease token from any frontend, and no token
//! is stored in clear. A builder that enrols again gets its new token by the same means, from the one it has.

use hmac::{Hmac, KeyInit, Mac};
use millrace_domain::{AttemptId, BuilderId, Token};
use sha2::{Digest, Sha256};

/// The key; derives the tokens of leases and of builders that enrol again.
#[derive(Clone)]
pub struct LeaseKey(Hmac<Sha256>);

impl LeaseKey {
    /// A key for this purpose alone, from the admin token, which all frontends share and no builder has.
    pub fn derive(admin: &Token) -> Self {
        let mut digest = Sha256::new();
        digest.update(b"millrace lease key v1\0");
        digest.update(admin.expose().as_bytes());
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        block[..32].copy_from_slice(&digest.finalize());
        Self(Hmac::new(&block))
    }

    /// The lease token of an attempt claimed with this nonce.
    pub fn token(&self, attempt: AttemptId, nonce: &Token) -> Token {
        self.derive_token(b"lease", attempt.0.as_bytes(), nonce)
    }

    /// The new token of a builder that enrols again with `previous`.
    pub fn builder_token(&self, builder: BuilderId, previous: &Token) -> Token {
        self.derive_token(b"builder", builder.0.as_bytes(), previous)
    }

    fn derive_token(&self, purpose: &[u8], id: &[u8; 16], from: &Token) -> Token {
        let mut mac = self.0.clone();
        mac.update(purpose);
        mac.update(id);
        mac.update(from.expose().as_bytes());
        Token::from_bytes(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_claim_gets_the_same_token_and_no_other_does() {
        let key = LeaseKey::derive(&Token::new("admin"));
        let attempt = AttemptId::generate();
        let nonce = Token::new("nonce");
        let token = key.token(attempt, &nonce).hash();
        assert_eq!(key.token(attempt, &nonce).hash(), token);
        assert_ne!(key.token(attempt, &Token::new("other")).hash(), token);
        assert_ne!(key.token(AttemptId::generate(), &nonce).hash(), token);
        let other = LeaseKey::derive(&Token::new("admin2"));
        assert_ne!(other.token(attempt, &nonce).hash(), token);
    }
}
