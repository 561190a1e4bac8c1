//! Shared by both HTTP clients: one crypto provider, one user agent, errors in words.

use std::error::Error;
use std::io;

use reqwest::{Client, ClientBuilder};

/// What servers see as the client's name.
const USER_AGENT: &str = concat!("millrace/", env!("CARGO_PKG_VERSION"));

/// A builder with our defaults: redirects are not followed, proxies in the environment not used.
pub(crate) fn client_builder() -> ClientBuilder {
    // A second installation is refused and changes nothing, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
}

/// Builds the client with the system's root certificates; without any, plain http still works.
pub(crate) fn build(make: impl Fn() -> ClientBuilder) -> Result<Client, String> {
    make().build().or_else(|error| {
        let client = make()
            .tls_certs_only([])
            .build()
            .map_err(|_| deepest(&error))?;
        tracing::warn!(
            "https will not work, install the package ca-certificates: {}",
            deepest(&error)
        );
        Ok(client)
    })
}

/// The innermost cause: the part of a client's error that helps a person.
pub(crate) fn deepest(error: &(dyn Error + 'static)) -> String {
    causes(error)
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

/// An error and all its causes, outermost first.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// What is wrong with the server's certificate, when that is what failed.
pub(crate) fn certificate_fault(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(rustls::Error::InvalidCertificate(fault)) = error.downcast_ref() {
        return Some(fault.to_string());
    }
    // An I/O error skips the error it wraps when it is asked for its source.
    let wrapped = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .and_then(|inner| certificate_fault(inner));
    wrapped.or_else(|| certificate_fault(error.source()?))
}

/// `host:port` of a URL, for messages.
pub(crate) fn host_and_port(url: &url::Url) -> String {
    let host = url.host_str().unwrap_or("?");
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::CertificateError;

    #[derive(Debug, thiserror::Error)]
    #[error("client error")]
    struct Outer(#[source] io::Error);

    #[test]
    fn an_untrusted_certificate_is_found_among_the_causes() {
        let bad = rustls::Error::InvalidCertificate(CertificateError::Expired);
        // Nested as the TLS connector does it.
        let error = Outer(io::Error::other(io::Error::other(bad)));
        assert_eq!(
            certificate_fault(&error),
            Some(CertificateError::Expired.to_string())
        );
        let other = Outer(io::ErrorKind::ConnectionRefused.into());
        assert_eq!(certificate_fault(&other), None);
        assert_eq!(deepest(&other), "connection refused");
    }
}
