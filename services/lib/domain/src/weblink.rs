//! URLs of sources and repositories. They end up in space-joined fields, in `dnf.conf` and in a mock
//! command line, so only plain http(s) is let in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

/// The longest URL that is accepted, in characters.
const MAX_LENGTH: usize = 2048;

/// Why a URL was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Longer than 2,048 characters.
    #[error("longer than 2048 characters")]
    TooLong,
    /// Holds a character that other programs would read as code.
    #[error(
        "holds {0:?}; blanks, control characters, quotes, braces, backslashes and non-ASCII must be percent-encoded"
    )]
    Character(char),
    /// Not an absolute http or https URL with a host.
    #[error("expected an absolute http:// or https:// URL with a host")]
    NotHttp,
    /// Carries a user name or password.
    #[error("a URL with a user name or password is not accepted")]
    Credentials,
}

fn parse(text: &str, variables: &[&str]) -> Result<(), LinkError> {
    if text.len() > MAX_LENGTH {
        return Err(LinkError::TooLong);
    }
    let mut plain = text.to_owned();
    for variable in variables {
        plain = plain.replace(variable, "x");
    }
    if let Some(bad) = plain.chars().find(|c| !is_plain(*c)) {
        return Err(LinkError::Character(bad));
    }
    // The URL standard also takes `http:host` and `http:///host`; other programs would not read the same host.
    if plain
        .split_once("://")
        .is_none_or(|(_, rest)| rest.is_empty() || rest.starts_with('/'))
    {
        return Err(LinkError::NotHttp);
    }
    let url = Url::parse(&plain).map_err(|_| LinkError::NotHttp)?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(LinkError::NotHttp);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(LinkError::Credentials);
    }
    Ok(())
}

fn is_plain(c: char) -> bool {
    c.is_ascii_graphic() && !"\"'`<>{}|\\^$;".contains(c)
}

macro_rules! link_type {
    ($(#[$doc:meta])* $name:ident, $variables:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[derive(schemars::JsonSchema, utoipa::ToSchema)]
        #[schema(value_type = String)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The URL as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = LinkError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text, $variables).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = LinkError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(link: $name) -> Self {
                link.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

link_type!(
    /// The http(s) URL of a source package.
    SourceUrl, &[]
);
link_type!(
    /// The http(s) URL of an extra repository; `$basearch` stands for the architecture.
    RepositoryUrl, &["$basearch"]
);

impl RepositoryUrl {
    /// The URL with `$basearch` replaced.
    pub fn expand(&self, arch: &str) -> String {
        self.0.replace("$basearch", arch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_http_urls_are_accepted() {
        assert!("http://foo/pkg.src.rpm".parse::<SourceUrl>().is_ok());
        assert!(
            "https://foo:8443/a%20b?x=1&y=2"
                .parse::<SourceUrl>()
                .is_ok()
        );
        let repository: RepositoryUrl = "http://foo/repo/$basearch/".parse().unwrap();
        assert_eq!(repository.expand("x86_64"), "http://foo/repo/x86_64/");
    }

    #[test]
    fn code_and_other_schemes_are_refused() {
        for bad in [
            "",
            "foo",
            "file:///etc/passwd",
            "ftp://foo/x",
            "http://",
            "http:///x",
            "http:x",
            "http://a b",
            "http://a/\n",
            "http://a/{{7}}",
            "http://a/'x",
            "http://a/\"",
            "http://a/$x",
            "http://u:p@h/x",
            "javascript:alert(1)",
        ] {
            assert!(bad.parse::<RepositoryUrl>().is_err(), "{bad:?}");
        }
        assert!("http://a/$basearch".parse::<SourceUrl>().is_err());
        assert_eq!(
            format!("http://a/{}", "x".repeat(3000)).parse::<SourceUrl>(),
            Err(LinkError::TooLong)
        );
    }

    proptest! {
        #[test]
        fn an_accepted_url_never_breaks_a_space_joined_field(text in "http://\\PC{0,40}") {
            if let Ok(link) = text.parse::<SourceUrl>() {
                let harmless = !link.as_str().contains([' ', '\n', '\'', '"', '{', '}']);
                prop_assert!(harmless);
            }
        }
    }
}
