//! Where a service is reached.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The port of a service that was asked to listen on one.
const DEFAULT_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 37738);

/// The address of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket.
    Socket(PathBuf),
    /// A port of this machine.
    Port(SocketAddr),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Port(address) => address.fmt(f),
        }
    }
}

/// Reads `HOST:PORT`. Whoever can reach a port can ask to change files: it has to be one of this
/// machine alone.
pub(crate) fn port(text: &str) -> Result<SocketAddr, String> {
    if text == "default" {
        return Ok(DEFAULT_PORT);
    }
    let text = text.replacen("localhost:", "127.0.0.1:", 1);
    let address: SocketAddr =
        text.parse().map_err(|_| format!("{text:?} is no address of the form HOST:PORT"))?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!("{address} can be reached from other machines; use 127.0.0.1 or [::1]"))
    }
}

/// Reads the address of a service: a path, or `HOST:PORT`.
pub(crate) fn service(text: &str) -> Result<Address, String> {
    if text.contains('/') {
        Ok(Address::Socket(text.into()))
    } else {
        port(text).map(Address::Port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_this_machine_alone_are_listened_on() {
        assert_eq!(port("default").unwrap().to_string(), "127.0.0.1:37738");
        assert_eq!(port("localhost:1").unwrap(), port("127.0.0.1:1").unwrap());
        assert!(port("[::1]:80").is_ok());
        for bad in ["0.0.0.0:1", "192.168.1.1:37738", "[::]:1", "localhost", "127.0.0.1", "x:y", ""]
        {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_service_has_a_path_or_a_port() {
        assert_eq!(service("/a/b.sock").unwrap(), Address::Socket("/a/b.sock".into()));
        assert_eq!(service("default").unwrap(), Address::Port(DEFAULT_PORT));
        assert!(service("name").is_err());
    }
}
