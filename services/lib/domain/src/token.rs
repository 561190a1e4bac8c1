//! Secrets that authorise: lease tokens, builder tokens, the admin token. Stored only as digests.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A bearer secret. `Debug` never shows it; [`Token::expose`] is the one way out.
#[derive(Clone, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// A token whose text came from outside, such as a header or a setting.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// A token of 32 random bytes of the caller's, as 64 hexadecimal digits.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(hex::encode(bytes))
    }

    /// The secret itself, for the one header or message that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The SHA-256 digest that is stored and compared in the token's place.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The digest of a [`Token`]. Equality takes the same time whatever differs.
#[derive(Clone, Copy)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// The digest's bytes, as a database column holds them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether stored bytes are this digest, compared in constant time.
    pub fn matches(&self, stored: &[u8]) -> bool {
        self.0.as_slice().ct_eq(stored).into()
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl Eq for TokenHash {}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_secret() {
        let token = Token::new("s3cret");
        assert!(!format!("{token:?} {:?}", token.hash()).contains("s3cret"));
    }

    #[test]
    fn a_digest_matches_only_its_own_token() {
        let token = Token::from_bytes([7; 32]);
        assert!(
            token
                .hash()
                .matches(Token::from_bytes([7; 32]).hash().as_bytes())
        );
        assert!(
            !token
                .hash()
                .matches(Token::from_bytes([8; 32]).hash().as_bytes())
        );
        assert!(!token.hash().matches(b"short"));
    }
}
