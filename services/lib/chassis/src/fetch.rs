//! The guarded client: the only way in which Millrace follows a URL that came from outside.
//!
//! A name is resolved by [`GuardedResolver`], which hands the connector nothing but addresses that were checked.
//! So the connection goes to what was checked, even when the name's owner changes its address in between. The
//! resolver is not asked for literal addresses; those are checked at each hop.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT_ENCODING, LOCATION};
use reqwest::{Client, Response};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use url::Url;

use crate::address::{AllowList, Guard};
use crate::fetch_error::FetchError;
use crate::http;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;

/// What outside URLs may lead to.
#[derive(Debug, Clone, clap::Args)]
pub struct FetchArgs {
    /// Networks (CIDR, separated by commas) that source URLs may lead to although they are private
    #[arg(
        long = "fetch-allow",
        env = "MILLRACE_FETCH_ALLOW",
        value_name = "NETWORKS",
        default_value = ""
    )]
    pub fetch_allow: AllowList,
}

/// What a fetch may cost.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// The largest accepted size in bytes.
    pub max_bytes: u64,
    /// The time for resolving a name and connecting, at each hop.
    pub connect: Duration,
    /// The longest wait for the next bytes.
    pub idle: Duration,
    /// The time for everything together.
    pub total: Duration,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            max_bytes: 2 << 30,
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            total: Duration::from_mins(30),
        }
    }
}

/// A file that was fetched completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The size in bytes.
    pub size: u64,
    /// The SHA-256 digest as 64 hexadecimal digits.
    pub sha256: String,
    /// The URL that had the file, after redirects.
    pub url: String,
}

/// Fetches files from outside. Clones share one client.
#[derive(Debug, Clone)]
pub struct Fetcher {
    guard: Guard,
    limits: FetchLimits,
    client: Client,
}

impl Fetcher {
    /// A client that reaches only what the guard allows.
    pub fn new(guard: Guard, limits: FetchLimits) -> Result<Self, FetchError> {
        let resolver = Arc::new(GuardedResolver(guard.clone()));
        let client = http::build(|| {
            http::client_builder()
                .dns_resolver(resolver.clone())
                .connect_timeout(limits.connect)
                .read_timeout(limits.idle)
                // A kept connection would outlive the check of its address.
                .pool_max_idle_per_host(0)
        })
        .map_err(FetchError::Client)?;
        Ok(Self {
            guard,
            limits,
            client,
        })
    }

    /// The guard in use.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Fetches into a writer, which is flushed. On failure it may have received a part.
    pub async fn fetch<W>(&self, url: &str, to: &mut W) -> Result<Fetched, FetchError>
    where
        W: AsyncWrite + Unpin + Send,
    {
        let url = Url::parse(url).map_err(|error| FetchError::BadUrl(error.to_string()))?;
        let host = http::host_and_port(&url);
        tokio::time::timeout(self.limits.total, self.follow(url, to))
            .await
            .unwrap_or_else(|_| {
                Err(FetchError::TimedOut {
                    host,
                    what: format!("not done after {}", seconds(self.limits.total)),
                })
            })
    }

    /// Fetches into a new file, replacing an older one. On failure no file is left.
    pub async fn fetch_to_file(&self, url: &str, path: &Path) -> Result<Fetched, FetchError> {
        let result = async {
            let mut file = tokio::fs::File::create(path)
                .await
                .map_err(FetchError::Write)?;
            self.fetch(url, &mut file).await
        }
        .await;
        if result.is_err() {
            remove_partial(path).await;
        }
        result
    }

    async fn follow<W>(&self, mut url: Url, to: &mut W) -> Result<Fetched, FetchError>
    where
        W: AsyncWrite + Unpin + Send,
    {
        for _ in 0..=MAX_REDIRECTS {
            let response = self.request(&url).await?;
            match redirect_target(&url, &response)? {
                Some(next) => url = next,
                None => return self.receive(&url, response, to).await,
            }
        }
        Err(FetchError::TooManyRedirects {
            limit: MAX_REDIRECTS,
        })
    }

    async fn request(&self, url: &Url) -> Result<Response, FetchError> {
        self.guard.check_hop(url)?;
        self.client
            .get(url.clone())
            .header(ACCEPT_ENCODING, "identity")
            .send()
            .await
            .map_err(|error| self.explain(url, &error))
    }

    async fn receive<W>(
        &self,
        url: &Url,
        response: Response,
        to: &mut W,
    ) -> Result<Fetched, FetchError>
    where
        W: AsyncWrite + Unpin + Send,
    {
        let host = http::host_and_port(url);
        if response.status() != reqwest::StatusCode::OK {
            let status = response.status().as_u16();
            return Err(FetchError::Status { host, status });
        }
        let cap = self.limits.max_bytes;
        let declared = response.content_length();
        if declared.is_some_and(|size| size > cap) {
            return Err(FetchError::TooLarge { cap });
        }
        let mut hash = Sha256::new();
        let mut received: u64 = 0;
        let mut body = response.bytes_stream();
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|error| {
                if error.is_timeout() {
                    return self.explain(url, &error);
                }
                FetchError::Truncated {
                    host: host.clone(),
                    received,
                    declared,
                    reason: http::deepest(&error),
                }
            })?;
            received = received.saturating_add(bytes.len() as u64);
            if received > cap {
                return Err(FetchError::TooLarge { cap });
            }
            hash.update(&bytes);
            to.write_all(&bytes).await.map_err(FetchError::Write)?;
        }
        to.flush().await.map_err(FetchError::Write)?;
        Ok(Fetched {
            size: received,
            sha256: hex::encode(hash.finalize()),
            url: url.to_string(),
        })
    }

    fn explain(&self, url: &Url, error: &reqwest::Error) -> FetchError {
        let host = http::host_and_port(url);
        if let Some(refused) = http::causes(error).find_map(|cause| cause.downcast_ref::<Refused>())
        {
            return FetchError::AddressRefused {
                host: refused.host.clone(),
                address: refused.address,
            };
        }
        if error.is_timeout() {
            let what = if error.is_connect() {
                format!("no connection within {}", seconds(self.limits.connect))
            } else {
                format!("no data for {}", seconds(self.limits.idle))
            };
            return FetchError::TimedOut { host, what };
        }
        match http::certificate_fault(error) {
            Some(reason) => FetchError::Certificate { host, reason },
            None => FetchError::Unreachable {
                host,
                reason: http::deepest(error),
            },
        }
    }
}

/// Where a redirect leads; none for other answers.
fn redirect_target(url: &Url, response: &Response) -> Result<Option<Url>, FetchError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(LOCATION) else {
        return Ok(None);
    };
    let next = location
        .to_str()
        .ok()
        .and_then(|text| url.join(text).ok())
        .ok_or_else(|| {
            let host = http::host_and_port(url);
            FetchError::BadUrl(format!("{host} redirects to something that is no URL"))
        })?;
    Ok(Some(next))
}

async fn remove_partial(path: &Path) {
    match tokio::fs::remove_file(path).await {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(path = %path.display(), "cannot remove a partly fetched file: {error}");
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// Resolves names by the system and keeps the addresses that the guard allows.
#[derive(Debug)]
struct GuardedResolver(Guard);

/// All addresses of a name were refused.
#[derive(Debug)]
struct Refused {
    host: String,
    address: IpAddr,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} leads to {}", self.host, self.address)
    }
}

impl std::error::Error for Refused {}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let (good, bad): (Vec<_>, Vec<_>) = found
                .into_iter()
                .partition(|address| guard.allows(address.ip()));
            match (good.is_empty(), bad.first()) {
                (true, Some(first)) => Err(Refused {
                    host,
                    address: first.ip(),
                }
                .into()),
                (true, None) => Err("the name has no address".into()),
                (false, _) => Ok(Box::new(good.into_iter()) as Addrs),
            }
        })
    }
}
