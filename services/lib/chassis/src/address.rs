//! Which addresses a URL from outside may lead to: the public internet, and what the operator allows.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

use crate::fetch_error::FetchError;

/// IPv4 ranges that are not the public internet (RFC 6890 and its registry).
const REFUSED_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::BROADCAST, 32),
];

/// The only IPv6 range with public unicast addresses.
const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Ranges inside [`PUBLIC_V6`] that are not public: protocol assignments with Teredo, documentation.
const REFUSED_V6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Networks that outside URLs may lead to although they are not public.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Arc<[IpNet]>);

/// An entry of the list is neither a network nor an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no network, expected networks such as 10.1.0.0/16 or fd00::/8, separated by commas"
)]
pub struct AllowListError(String);

impl AllowList {
    /// Whether nothing is on it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the address is in one of its networks; an IPv4 address also when it is written as an IPv6 one.
    pub fn contains(&self, address: IpAddr) -> bool {
        let listed = |ip: IpAddr| self.0.iter().any(|network| network.contains(&ip));
        listed(address) || listed(address.to_canonical())
    }
}

impl FromStr for AllowList {
    type Err = AllowListError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split([',', ' '])
            .filter(|entry| !entry.is_empty())
            .map(|entry| {
                entry
                    .parse::<IpNet>()
                    .or_else(|_| entry.parse::<IpAddr>().map(IpNet::from))
                    .map_err(|_| AllowListError(entry.to_owned()))
            })
            .collect::<Result<Vec<_>, _>>()
            .map(|networks| Self(networks.into()))
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            network.fmt(f)?;
        }
        Ok(())
    }
}

/// Decides which addresses may be reached for a URL that came from outside.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allow: AllowList,
}

impl Guard {
    /// A guard that lets through public addresses and those on the list.
    pub fn new(allow: AllowList) -> Self {
        Self { allow }
    }

    /// Whether a connection to this address may be made.
    pub fn allows(&self, address: IpAddr) -> bool {
        self.allow.contains(address) || is_public(address)
    }

    /// Refuses what needs no name resolution to be refused: wrong schemes, literal addresses that are not
    /// public, and names that always mean the own machine. For use when a URL is submitted; the fetch itself
    /// checks every resolved address again.
    pub fn check_literal(&self, url: &str) -> Result<(), FetchError> {
        let url = Url::parse(url).map_err(|error| FetchError::BadUrl(error.to_string()))?;
        self.check_hop(&url)
    }

    /// As [`Guard::check_literal`], for each URL on the way.
    pub(crate) fn check_hop(&self, url: &Url) -> Result<(), FetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::SchemeRefused(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::BadUrl(
                "a URL with a user name or password is not accepted".to_owned(),
            ));
        }
        match url.host() {
            Some(Host::Ipv4(ip)) => self.check_address(url, ip.into()),
            Some(Host::Ipv6(ip)) => self.check_address(url, ip.into()),
            Some(Host::Domain(name)) if means_this_machine(name) => self
                .check_address(url, Ipv4Addr::LOCALHOST.into())
                .or_else(|refused| {
                    self.check_address(url, Ipv6Addr::LOCALHOST.into())
                        .map_err(|_| refused)
                }),
            Some(Host::Domain(name)) if !name.is_empty() => Ok(()),
            Some(Host::Domain(_)) | None => Err(FetchError::BadUrl("it names no host".to_owned())),
        }
    }

    fn check_address(&self, url: &Url, address: IpAddr) -> Result<(), FetchError> {
        if self.allows(address) {
            Ok(())
        } else {
            Err(FetchError::AddressRefused {
                host: url.host_str().unwrap_or_default().to_owned(),
                address,
            })
        }
    }
}

/// RFC 6761: `localhost` and all names below it.
fn means_this_machine(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match embedded_v4(ip) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(ip),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    !REFUSED_V4
        .iter()
        .any(|(network, length)| Ipv4Net::new_assert(*network, *length).contains(&ip))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let within =
        |(network, length): &(Ipv6Addr, u8)| Ipv6Net::new_assert(*network, *length).contains(&ip);
    within(&PUBLIC_V6) && !REFUSED_V6.iter().any(within)
}

/// The IPv4 address that traffic to some IPv6 addresses really goes to: mapped ones (`::ffff:0:0/96`), NAT64
/// (`64:ff9b::/96`) and 6to4 (`2002::/16`).
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    if let Some(mapped) = ip.to_ipv4_mapped() {
        return Some(mapped);
    }
    let ([0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..]) = ip.segments() else {
        return None;
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allows(text: &str) -> bool {
        Guard::default().allows(text.parse().unwrap())
    }

    #[test]
    fn addresses_that_are_not_public_are_refused() {
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.7",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001::1",
            "2001:db8::1",
            "100::1",
            "3fff::1",
            "4000::1",
        ] {
            assert!(!allows(bad), "{bad}");
        }
    }

    #[test]
    fn public_addresses_are_let_through() {
        for good in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.0.0.1",
            "128.0.0.1",
            "169.253.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
        ] {
            assert!(allows(good), "{good}");
        }
    }

    #[test]
    fn a_literal_that_leads_inside_is_refused_in_every_spelling() {
        for bad in [
            "http://127.0.0.1/x",
            "http://127.1/x",
            "http://2130706433/x",
            "http://0x7f000001/x",
            "http://0177.0.0.1/x",
            "http://[::1]/x",
            "http://[::ffff:127.0.0.1]:80/x",
            "http://[::ffff:7f00:1]/x",
            "http://localhost/x",
            "http://LOCALHOST:8080/x",
            "http://localhost./x",
            "http://a.localhost/x",
            "https://10.1.2.3/x",
            "http://0/x",
            "http://169.254.169.254/latest/meta-data",
            "http://%31%32%37.0.0.1/x",
        ] {
            let refused = Guard::default().check_literal(bad);
            assert!(
                matches!(refused, Err(FetchError::AddressRefused { .. })),
                "{bad}: {refused:?}"
            );
        }
    }

    #[test]
    fn other_schemes_and_credentials_are_refused() {
        let guard = Guard::default();
        assert!(matches!(
            guard.check_literal("file:///etc/passwd"),
            Err(FetchError::SchemeRefused(_))
        ));
        for bad in ["http://u:p@example.org/", "nonsense", "http://"] {
            assert!(
                matches!(guard.check_literal(bad), Err(FetchError::BadUrl(_))),
                "{bad}"
            );
        }
        assert!(
            guard
                .check_literal("https://example.org:8443/a?b=c")
                .is_ok()
        );
    }

    #[test]
    fn the_operators_list_opens_what_it_names_and_nothing_else() {
        let allow: AllowList = "10.1.0.0/16, 127.0.0.1,fd00::/8".parse().unwrap();
        assert_eq!(allow.to_string(), "10.1.0.0/16,127.0.0.1/32,fd00::/8");
        let guard = Guard::new(allow);
        assert!(guard.check_literal("http://10.1.2.3/").is_ok());
        assert!(guard.check_literal("http://[::ffff:10.1.2.3]/").is_ok());
        assert!(guard.check_literal("http://localhost/").is_ok());
        assert!(guard.check_literal("http://[fd12::1]/").is_ok());
        assert!(guard.check_literal("http://10.2.0.1/").is_err());
        assert!(guard.check_literal("http://127.0.0.2/").is_err());
    }

    #[test]
    fn an_empty_list_is_valid_and_a_wrong_entry_is_named() {
        assert_eq!("".parse::<AllowList>(), Ok(AllowList::default()));
        let error = "10.0.0.0/8,inside".parse::<AllowList>().unwrap_err();
        assert!(error.to_string().starts_with("'inside' is no network"));
    }

    proptest! {
        #[test]
        fn an_ipv6_spelling_never_opens_a_refused_ipv4_address(bits in any::<u32>()) {
            let ip = Ipv4Addr::from_bits(bits);
            let guard = Guard::default();
            let s = ip.octets().map(u16::from);
            let (high, low) = (s[0] << 8 | s[1], s[2] << 8 | s[3]);
            for v6 in [
                ip.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ] {
                prop_assert_eq!(guard.allows(v6.into()), guard.allows(ip.into()));
            }
            prop_assert!(!guard.allows(ip.to_ipv6_compatible().into()));
            prop_assert!(!(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast()
                || ip.is_unspecified() || ip.is_broadcast() || ip.is_documentation()) || !guard.allows(ip.into()));
        }

        #[test]
        fn no_text_makes_the_check_panic(text in "\\PC{0,60}") {
            let _ = Guard::default().check_literal(&text);
            let _ = Guard::default().check_literal(&format!("http://{text}/"));
        }
    }
}
