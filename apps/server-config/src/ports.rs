//! `restrict-user-to-ports` (`specs/server-config.md` §14.2).

use serde::{Deserialize, Serialize};

/// Ports that a user may, or may not, reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRestriction {
    /// True for `!(…)`: `items` are closed, all else is open. False: only `items` are open.
    pub deny: bool,
    /// In the order of the file.
    pub items: Vec<PortItem>,
}

/// One `PROTO(PORT)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortItem {
    /// Protocol.
    pub protocol: PortProtocol,
    /// Port; 0 is all, also for protocols without ports.
    pub port: u16,
}

/// Protocols of a [`PortItem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// IPsec ESP.
    Esp,
    /// ICMP for IPv4.
    Icmp,
    /// ICMP for IPv6.
    Icmpv6,
}

impl PortRestriction {
    /// Reads all lines of an option; they add up, and one negated line makes all of them deny.
    /// `None` when there are no lines.
    ///
    /// # Errors
    /// The text of the configuration error.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Option<Self>, String> {
        let mut restriction = Self {
            deny: false,
            items: Vec::new(),
        };
        for line in lines {
            restriction
                .add_line(line)
                .map_err(|problem| format!("cannot parse restrict-user-to-ports: {problem}"))?;
        }
        Ok((!restriction.items.is_empty()).then_some(restriction))
    }

    fn add_line(&mut self, line: &str) -> Result<(), String> {
        let line = line.trim();
        let list = match line.strip_prefix('!').map(str::trim_start) {
            None => line,
            Some(negated) => {
                self.deny = true;
                let inner = negated.strip_prefix('(').ok_or("no bracket following negation")?;
                inner
                    .strip_suffix(')')
                    .ok_or("expected closing parenthesis at the end of the negated list")?
            }
        };
        let mut rest = list.trim();
        loop {
            let (item, after) = PortItem::parse_first(rest)?;
            self.items.push(item);
            match after.strip_prefix(',') {
                Some(more) => rest = more.trim_start(),
                None if after.is_empty() => return Ok(()),
                None => return Err(format!("expected comma or end of line at '{after}'")),
            }
        }
    }
}

impl PortItem {
    /// The item at the start of `text` and what follows it, without white space.
    fn parse_first(text: &str) -> Result<(Self, &str), String> {
        let end = text
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let protocol = PortProtocol::from_name(name)
            .ok_or_else(|| format!("unknown protocol on restrict-user-to-ports: '{text}'"))?;
        let rest = rest
            .trim_start()
            .strip_prefix('(')
            .ok_or_else(|| format!("expected parenthesis after '{name}'"))?;
        let (port, rest) = rest
            .split_once(')')
            .ok_or_else(|| format!("expected closing parenthesis after '{name}('"))?;
        let port = match port.trim() {
            "" => 0,
            _ if !protocol.has_ports() => 0,
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits
                .parse()
                .map_err(|_| format!("port number {digits} is too large"))?,
            other => {
                return Err(format!(
                    "expected closing parenthesis after the port number, found '{other}'"
                ));
            }
        };
        Ok((Self { protocol, port }, rest.trim_start()))
    }
}

impl PortProtocol {
    /// The name as the firewall and `occtl` write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Esp => "esp",
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmpv6",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [
            Self::Tcp,
            Self::Udp,
            Self::Sctp,
            Self::Esp,
            Self::Icmp,
            Self::Icmpv6,
        ]
        .into_iter()
        .find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }

    fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Sctp)
    }
}

#[cfg(test)]
mod tests {
    use super::PortProtocol::*;
    use super::*;
    use proptest::prelude::*;

    fn items(list: &[(PortProtocol, u16)]) -> Vec<PortItem> {
        list.iter()
            .map(|&(protocol, port)| PortItem { protocol, port })
            .collect()
    }

    #[test]
    fn lists_of_ports() {
        let parsed = PortRestriction::parse(["tcp(443), UDP ( 53 ) ,icmp(), esp(7), sctp()"]);
        let expected = items(&[(Tcp, 443), (Udp, 53), (Icmp, 0), (Esp, 0), (Sctp, 0)]);
        assert_eq!(
            parsed,
            Ok(Some(PortRestriction {
                deny: false,
                items: expected
            }))
        );
        assert_eq!(PortRestriction::parse([]), Ok(None));
    }

    #[test]
    fn lines_add_up_and_one_negation_denies_all() {
        let parsed = PortRestriction::parse(["tcp(80)", "! ( tcp(22), icmpv6() )"]);
        let expected = items(&[(Tcp, 80), (Tcp, 22), (Icmpv6, 0)]);
        assert_eq!(
            parsed,
            Ok(Some(PortRestriction {
                deny: true,
                items: expected
            }))
        );
    }

    #[test]
    fn wrong_lists_are_refused() {
        for (line, problem) in [
            ("!tcp(22)", "no bracket following negation"),
            ("!(tcp(22)", "unknown protocol"),
            ("!(tcp(22) x", "expected closing parenthesis"),
            ("foo(1)", "unknown protocol on restrict-user-to-ports"),
            ("tcp", "expected parenthesis"),
            ("tcp(1", "expected closing parenthesis"),
            ("tcp(1x)", "expected closing parenthesis"),
            ("tcp(70000)", "too large"),
            ("tcp(1) udp(2)", "expected comma or end of line"),
            ("tcp(1),", "unknown protocol"),
            ("", "unknown protocol"),
        ] {
            let error = PortRestriction::parse([line]).expect_err(line);
            assert!(
                error.starts_with("cannot parse restrict-user-to-ports: "),
                "{error}"
            );
            if !line.starts_with("!(tcp(22)") {
                assert!(error.contains(problem), "{line}: {error}");
            }
        }
    }

    proptest! {
        #[test]
        fn never_panics(line in "[!(), a-z0-9é]{0,30}") {
            let _ = PortRestriction::parse([line.as_str()]);
        }
    }
}
