//! `kkdcp`: proxies to Kerberos KDCs (`specs/server-config.md` §8.1).

use serde::{Deserialize, Serialize};

/// One `kkdcp` line, `PATH REALM PROTO@HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kkdcp {
    /// URL path that clients post to.
    pub path: String,
    /// Kerberos realm.
    pub realm: String,
    /// How the KDC is reached.
    pub transport: Transport,
    /// Name or address of the KDC, without brackets.
    pub host: String,
    /// Port of the KDC.
    pub port: u16,
}

/// Transport to a KDC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Kkdcp {
    /// Reads the value of a `kkdcp` line.
    ///
    /// # Errors
    /// The text of the configuration error.
    pub(crate) fn parse(value: &str) -> Result<Self, String> {
        let unparsable = || format!("Cannot parse kkdcp string: {value}");
        let mut words = value.split_whitespace();
        let (Some(path), Some(realm), Some(server), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(unparsable());
        };
        if !path.starts_with('/') {
            return Err(unparsable());
        }
        let (protocol, address) = server.split_once('@').ok_or_else(unparsable)?;
        let transport = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            _ => return Err(format!("cannot handle protocol {server}")),
        };
        let no_port = || format!("No server port specified in: {address}");
        let (host, port) = match address.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once("]:").ok_or_else(no_port)?,
            None => address.rsplit_once(':').ok_or_else(no_port)?,
        };
        let port = port
            .parse()
            .ok()
            .filter(|&port: &u16| port != 0)
            .ok_or_else(no_port)?;
        if host.is_empty() {
            return Err(unparsable());
        }
        Ok(Self {
            path: path.to_owned(),
            realm: realm.to_owned(),
            transport,
            host: host.to_owned(),
            port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies() {
        let parsed = Kkdcp::parse("/KdcProxy KERBEROS.REALM udp@[::1]:88");
        let expected = Kkdcp {
            path: "/KdcProxy".into(),
            realm: "KERBEROS.REALM".into(),
            transport: Transport::Udp,
            host: "::1".into(),
            port: 88,
        };
        assert_eq!(parsed, Ok(expected));
        assert_eq!(
            Kkdcp::parse("/p R TCP@kdc.example:1088").map(|k| (k.host, k.port)),
            Ok(("kdc.example".into(), 1088))
        );
    }

    #[test]
    fn wrong_proxies_are_refused() {
        for (value, message) in [
            ("/p R", "Cannot parse kkdcp string: /p R"),
            ("p R udp@h:1", "Cannot parse kkdcp string: p R udp@h:1"),
            ("/p R h:1", "Cannot parse kkdcp string: /p R h:1"),
            ("/p R sctp@h:1", "cannot handle protocol sctp@h:1"),
            ("/p R udp@h", "No server port specified in: h"),
            ("/p R udp@[::1]", "No server port specified in: [::1]"),
            ("/p R udp@h:0", "No server port specified in: h:0"),
            ("/p R udp@h:x", "No server port specified in: h:x"),
        ] {
            assert_eq!(Kkdcp::parse(value), Err(message.to_owned()));
        }
    }
}
