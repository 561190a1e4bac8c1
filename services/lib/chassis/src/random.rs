//! Randomness for secrets, straight from the operating system.

use rand::TryRng;
use rand::rngs::SysRng;

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes: {0}")]
pub struct ChanceError(String);

/// 32 unpredictable bytes: enough for a token.
pub fn random_bytes() -> Result<[u8; 32], ChanceError> {
    let mut bytes = [0; 32];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| ChanceError(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_tokens_differ() {
        assert_ne!(
            super::random_bytes().unwrap(),
            super::random_bytes().unwrap()
        );
    }
}
