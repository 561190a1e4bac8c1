//! The address of the client behind trusted proxies. Of `X-Forwarded-For` only the entries that trusted proxies added
//! count, since a client can send any.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use millrace_chassis::AllowList;

/// Each proxy adds the address it was asked from at the end (RFC 7239, section 7.4, on this older header).
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address: the peer, or, where that is a trusted proxy, the last entry of `X-Forwarded-For` that is no
/// trusted proxy. Such an entry has no port; it is 0 then.
pub fn client_of(peer: SocketAddr, headers: &HeaderMap, proxies: &AllowList) -> SocketAddr {
    if !proxies.contains(peer.ip()) {
        return peer;
    }
    let values = headers.get_all(&FORWARDED_FOR);
    let values: Vec<&str> = values.iter().filter_map(|v| v.to_str().ok()).collect();
    let mut client = peer;
    for entry in values.iter().rev().flat_map(|value| value.rsplit(',')) {
        // What stands before an entry that is no address cannot be attributed to a proxy.
        let Some(address) = address_of(entry.trim()) else {
            break;
        };
        client = SocketAddr::new(address, 0);
        if !proxies.contains(address) {
            break;
        }
    }
    client
}

/// An address with or without a port.
fn address_of(entry: &str) -> Option<IpAddr> {
    let with_port = || entry.parse::<SocketAddr>().map(|address| address.ip());
    entry.parse().or_else(|_| with_port()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_what_trusted_proxies_added_is_believed() {
        let proxies: AllowList = "10.0.0.0/8".parse().unwrap();
        let client = |peer: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
            }
            let peer = SocketAddr::new(peer.parse().unwrap(), 5);
            client_of(peer, &headers, &proxies).ip().to_string()
        };
        assert_eq!(client("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(
            client("10.0.0.1", &["1.2.3.4, 198.51.100.7"]),
            "198.51.100.7"
        );
        assert_eq!(
            client(
                "10.0.0.1",
                &["1.2.3.4, 198.51.100.7:81,10.0.0.2", "10.0.0.3"]
            ),
            "198.51.100.7"
        );
        assert_eq!(client("10.0.0.1", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(
            client("10.0.0.1", &["1.2.3.4, unknown, 10.0.0.2"]),
            "10.0.0.2"
        );
        assert_eq!(client("10.0.0.1", &["nonsense"]), "10.0.0.1");
    }
}
