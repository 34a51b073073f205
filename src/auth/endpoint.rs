//! Endpoint URLs and the addresses behind them: where a token may be sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::base::limits;

/// Why an endpoint was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The URL does not parse, or is too long.
    #[error("it is no URL")]
    NotUrl,
    /// The scheme is neither `https` nor, to loopback, `http`.
    #[error("it must begin with https:// (http:// only to 127.0.0.1, ::1 or localhost)")]
    Scheme,
    /// User and password stand in it.
    #[error("it must hold no user or password")]
    UserInfo,
    /// A query or fragment stands in it.
    #[error("it must have no query and no fragment")]
    Query,
    /// It has no host.
    #[error("it names no host")]
    Host,
    /// The address behind it is one that nobody should be sent to.
    #[error(
        "{address} is a private, link-local or otherwise local address; allow it in config.toml under [auth] allow_private"
    )]
    Private {
        /// The address.
        address: IpAddr,
    },
}

/// A URL that tokens may be sent to: https, or http to this machine; no user, query or fragment.
///
/// ```
/// use palyra_ledger::auth::Endpoint;
/// assert!(Endpoint::parse("https://auth.example/token").is_ok());
/// assert!(Endpoint::parse("http://127.0.0.1:8080/token").is_ok());
/// assert!(Endpoint::parse("http://auth.example/token").is_err());
/// assert!(Endpoint::parse("https://user@auth.example/token").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: reqwest::Url,
    loopback: bool,
}

impl Endpoint {
    /// Reads and checks a URL. The address behind a name is checked when it is connected to.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.len() > limits::ENDPOINT_MAX || text.chars().any(|letter| letter.is_control() || letter == ' ') {
            return Err(EndpointError::NotUrl);
        }
        let url = reqwest::Url::parse(text).map_err(|_| EndpointError::NotUrl)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::UserInfo);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(EndpointError::Query);
        }
        // Written out in full it may be longer than it was.
        if url.as_str().len() > limits::ENDPOINT_MAX {
            return Err(EndpointError::NotUrl);
        }
        let host = url.host_str().ok_or(EndpointError::Host)?;
        let literal = literal(host);
        let loopback = literal.map_or(host == "localhost", is_this_machine);
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            _ => return Err(EndpointError::Scheme),
        }
        Ok(Self { url, loopback })
    }

    /// The same for a page that a person is sent to: a query may stand in it (RFC 6749, section 3.1).
    ///
    /// # Errors
    /// As [`Endpoint::parse`].
    pub fn parse_page(text: &str) -> Result<Self, EndpointError> {
        let (bare, query) = text.split_once('?').unwrap_or((text, ""));
        let mut page = Self::parse(bare)?;
        if query.len() > limits::ENDPOINT_MAX || query.contains('#') || query.chars().any(char::is_control) {
            return Err(EndpointError::Query);
        }
        if !query.is_empty() {
            page.url.set_query(Some(query));
        }
        Ok(page)
    }

    /// The URL.
    #[must_use]
    pub const fn url(&self) -> &reqwest::Url {
        &self.url
    }

    /// Whether it names this machine, by address or as `localhost`.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// The address that it names without a resolver.
    #[must_use]
    pub fn literal(&self) -> Option<IpAddr> {
        self.url.host_str().and_then(literal)
    }

    /// Checks an address that this endpoint is about to be connected at. Whoever names this machine gets
    /// this machine and no other.
    ///
    /// # Errors
    /// [`EndpointError::Private`].
    pub fn admits(&self, address: IpAddr, allowed: &[(IpAddr, u8)]) -> Result<(), EndpointError> {
        let inner = canonical(address);
        let fine = if self.loopback {
            // An allowed network widens where others are, never what "this machine" means.
            is_this_machine(address)
        } else {
            is_public(inner) || allowed.iter().any(|block| contains(*block, inner))
        };
        if fine {
            return Ok(());
        }
        Err(EndpointError::Private { address })
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Loopback itself. An IPv6 address that only carries one (NAT64, 6to4, IPv4-compatible) is canonical to it and
/// still goes out to the network.
fn is_this_machine(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// An IPv4 address inside an IPv6 one is that IPv4 address: mapped (RFC 4291), NAT64 (RFC 6052), 6to4
/// (RFC 3056).
fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let segments = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xFFFF, high, low] | [0x64, 0xFF9B, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            v4(high, low)
        }
        // IPv4-compatible, deprecated; ::1 and :: are no such.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        _ => address,
    }
}

/// Whether an address is of the public internet: not private, shared, link-local, loopback, multicast,
/// documentation or reserved (RFC 6890 and its registries).
fn is_public(address: IpAddr) -> bool {
    const V4: [(Ipv4Addr, u8); 16] = [
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
    match address {
        IpAddr::V4(v4) => !V4.iter().any(|(net, bits)| contains((IpAddr::V4(*net), *bits), v4.into())),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// Global unicast (`2000::/3`) without what is set apart in it.
const fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    a & 0xE000 == 0x2000
        && !(a == 0x2001 && b < 0x0200)
        && !(a == 0x2001 && b == 0x0DB8)
        && !(a == 0x3FFF && b < 0x1000)
}

fn contains((net, bits): (IpAddr, u8), address: IpAddr) -> bool {
    let same = |net: u128, address: u128, width: u32| {
        let shift = width.saturating_sub(u32::from(bits));
        shift >= 128 || (net >> shift) == (address >> shift)
    };
    match (net, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => same(u32::from(net).into(), u32::from(address).into(), 32),
        (IpAddr::V6(net), IpAddr::V6(address)) => same(net.into(), address.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_that_a_token_may_be_sent_to_are_taken() {
        for good in ["https://a.example/t", "http://localhost:1/t", "http://[::1]/t", "https://127.0.0.1/t"] {
            assert!(Endpoint::parse(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("ftp://a.example", EndpointError::Scheme),
            ("http://a.example/", EndpointError::Scheme),
            ("http://127.0.0.1.example/", EndpointError::Scheme),
            ("http://10.0.0.1/", EndpointError::Scheme),
            ("https://u@a.example/", EndpointError::UserInfo),
            ("https://:p@a.example/", EndpointError::UserInfo),
            ("https://a.example/?q", EndpointError::Query),
            ("https://a.example/#f", EndpointError::Query),
            ("a.example", EndpointError::NotUrl),
            ("https://", EndpointError::NotUrl),
            ("https://a.example/\n", EndpointError::NotUrl),
        ] {
            assert_eq!(Endpoint::parse(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn addresses_of_the_inside_are_refused_however_they_are_written() {
        let out = Endpoint::parse("https://a.example/").unwrap();
        for bad in [
            "10.1.2.3",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "::7f00:1",
            "2001:db8::1",
            "198.18.0.1",
        ] {
            assert!(out.admits(bad.parse().unwrap(), &[]).is_err(), "{bad}");
        }
        for good in ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "172.32.0.1", "100.128.0.1"] {
            assert!(out.admits(good.parse().unwrap(), &[]).is_ok(), "{good}");
        }
        let allowed = [("10.0.0.0".parse().unwrap(), 8), ("fd00::".parse().unwrap(), 8)];
        assert!(out.admits("10.9.9.9".parse().unwrap(), &allowed).is_ok());
        assert!(out.admits("fd12::1".parse().unwrap(), &allowed).is_ok());
        assert!(out.admits("11.0.0.1".parse().unwrap(), &allowed).is_ok());
        assert!(out.admits("192.168.0.1".parse().unwrap(), &allowed).is_err());
        // Whoever names this machine is not sent elsewhere.
        let here = Endpoint::parse("http://localhost/").unwrap();
        assert!(here.admits("127.0.0.1".parse().unwrap(), &[]).is_ok());
        assert!(here.admits("8.8.8.8".parse().unwrap(), &[]).is_err());
    }
}
