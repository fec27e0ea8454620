//! Finding hosts: no redirect gets to talk to addresses that only exist on this machine's link.
//!
//! Clouds answer there (169.254.169.254) with the secrets of the machine, and a hub that is not
//! to be trusted could send us to them.

use std::fmt;
use std::net::IpAddr;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The usual resolver, without link-local addresses for any host but the endpoint's.
#[derive(Debug)]
pub(crate) struct Guarded {
    inner: DefaultResolver,
    endpoint: String,
}

impl Guarded {
    pub(crate) fn new(endpoint_host: &str) -> Self {
        Self { inner: DefaultResolver::default(), endpoint: endpoint_host.to_owned() }
    }
}

impl Resolver for Guarded {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        let ours = uri.host().is_some_and(|host| host.eq_ignore_ascii_case(&self.endpoint));
        if !ours && found.iter().any(|address| is_local(address.ip())) {
            return Err(ureq::Error::Other(Box::new(LinkLocal)));
        }
        Ok(found)
    }
}

fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast(),
    }
}

/// The reason of a refusal.
#[derive(Debug)]
pub(crate) struct LinkLocal;

impl fmt::Display for LinkLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a link-local address")
    }
}

impl std::error::Error for LinkLocal {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses() {
        for text in ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0", "::"] {
            assert!(is_local(text.parse().unwrap()), "{text}");
        }
        for text in ["127.0.0.1", "10.0.0.1", "18.164.174.23", "::1", "2600:9000::1"] {
            assert!(!is_local(text.parse().unwrap()), "{text}");
        }
    }
}
