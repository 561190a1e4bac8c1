//! Absolute links under the public URL, for answers that leave this machine.

use millrace_chassis::path_segment;
use millrace_domain::{FileName, Name, Token};
use url::Url;

use crate::config::error::SettingsError;

/// Builds links under `MILLRACE_PUBLIC_URL`.
#[derive(Debug, Clone)]
pub struct Links {
    base: String,
}

impl Links {
    /// Links under this base, which must be an absolute http(s) URL.
    pub fn new(base: &str) -> Result<Self, SettingsError> {
        let url = Url::parse(base)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.query().is_none());
        if url.is_none() {
            return Err(SettingsError::wrong(
                "MILLRACE_PUBLIC_URL",
                "expected an absolute http:// or https:// URL",
            ));
        }
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
        })
    }

    /// A link to this path, which begins with a slash.
    pub fn to(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The address that a poller gets in place of `.../backend`; its token is in the path.
    pub fn poller(&self, token: &Token) -> String {
        self.to(&format!("/legacy/{}/backend", token.expose()))
    }

    /// The address at which builders and people read an uploaded source.
    pub fn source(&self, owner: &Name, project: &Name, sha256: &str, name: &FileName) -> String {
        let name = path_segment(name.as_str());
        self.to(&format!(
            "/results/{owner}/{project}/sources/{sha256}/{name}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_have_one_slash_and_an_escaped_name() {
        let links = Links::new("http://h:1/").unwrap();
        let (owner, name) = ("main".parse().unwrap(), "a^1-1.src.rpm".parse().unwrap());
        assert_eq!(
            links.source(&owner, &owner, "00", &name),
            "http://h:1/results/main/main/sources/00/a%5E1-1.src.rpm"
        );
    }
}
