//! Routes as options write them (`specs/server-config.md` §12.2).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::Routes;

/// A route as headers, scripts and tools write it: `10.0.0.0/255.0.0.0`, `fd00::/8`.
pub fn route_text(net: &IpNet) -> String {
    match net {
        IpNet::V4(net) => format!("{}/{}", net.addr(), net.netmask()),
        IpNet::V6(net) => net.to_string(),
    }
}

/// Reads `ADDRESS/LENGTH` or, for IPv4, `ADDRESS/MASK`. The whole text must fit; host bits stay.
///
/// # Errors
/// The text of the configuration error.
pub(crate) fn parse_net(text: &str) -> Result<IpNet, String> {
    let Some((address, prefix)) = text.split_once('/') else {
        return Err(format!("route '{text}' is missing a /prefix, use address/prefix"));
    };
    let invalid = |what: &str| format!("route '{text}' has an invalid {what}");
    if address.contains(':') {
        let address: Ipv6Addr = address.parse().map_err(|_| invalid("IPv6 address"))?;
        let length = parse_length(prefix, 128).ok_or_else(|| invalid("IPv6 prefix"))?;
        let net = Ipv6Net::new(address, length).map_err(|_| invalid("IPv6 prefix"))?;
        return Ok(net.into());
    }
    let address: Ipv4Addr = address.parse().map_err(|_| invalid("IPv4 address"))?;
    let length = if prefix.contains('.') {
        let mask: Ipv4Addr = prefix.parse().map_err(|_| invalid("IPv4 netmask"))?;
        ipnet::ipv4_mask_to_prefix(mask).map_err(|_| invalid("IPv4 netmask"))?
    } else {
        parse_length(prefix, 32).ok_or_else(|| invalid("IPv4 prefix"))?
    };
    let net = Ipv4Net::new(address, length).map_err(|_| invalid("IPv4 prefix"))?;
    Ok(net.into())
}

fn parse_length(text: &str, max: u8) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&length: &u8| digits && length <= max)
}

impl Routes {
    /// Reads the lines of `route`. `default` drops all others; a route to everything of one family
    /// drops the others of that family.
    ///
    /// # Errors
    /// The text of the configuration error and the index of the line.
    pub(crate) fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, (usize, String)> {
        let mut routes = Self::default();
        for (index, line) in lines.into_iter().enumerate() {
            if line.eq_ignore_ascii_case("default") {
                routes.default = true;
            } else {
                routes
                    .nets
                    .push(parse_net(line).map_err(|message| (index, message))?);
            }
        }
        routes.normalise();
        Ok(routes)
    }

    /// These routes and, after them, `others`.
    pub(crate) fn with(&self, others: &Self) -> Self {
        let mut both = self.clone();
        both.default |= others.default;
        both.nets.extend(others.nets.iter().copied());
        both.normalise();
        both
    }

    fn normalise(&mut self) {
        let all_v4 = self
            .nets
            .iter()
            .any(|net| matches!(net, IpNet::V4(_)) && net.prefix_len() == 0);
        let all_v6 = self
            .nets
            .iter()
            .any(|net| matches!(net, IpNet::V6(_)) && net.prefix_len() == 0);
        self.nets.retain(|net| match net {
            IpNet::V4(_) => !all_v4,
            IpNet::V6(_) => !all_v6,
        });
        self.default |= (all_v4 || all_v6) && self.nets.is_empty();
        if self.default {
            self.nets.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn routes_are_normalised_for_output_and_keep_host_bits() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/255.0.0.0"),
            ("10.1.2.3/8", "10.1.2.3/255.0.0.0"),
            ("192.0.2.0/255.255.255.0", "192.0.2.0/255.255.255.0"),
            ("fd00::/8", "fd00::/8"),
            ("FD00:0:0::1/128", "fd00::1/128"),
        ] {
            assert_eq!(parse_net(text).as_ref().map(route_text), Ok(shown.to_owned()));
        }
    }

    #[test]
    fn malformed_and_hostile_routes_are_refused() {
        for (text, problem) in [
            ("10.0.0.0", "is missing a /prefix, use address/prefix"),
            ("", "is missing a /prefix, use address/prefix"),
            ("10.0.0/8", "has an invalid IPv4 address"),
            ("10.0.0.0/8;reboot", "has an invalid IPv4 prefix"),
            ("$(id)/8", "has an invalid IPv4 address"),
            ("10.0.0.0/255.0.255.0", "has an invalid IPv4 netmask"),
            ("10.0.0.0/1.2.3", "has an invalid IPv4 netmask"),
            ("10.0.0.0/33", "has an invalid IPv4 prefix"),
            ("10.0.0.0/+8", "has an invalid IPv4 prefix"),
            ("10.0.0.0/", "has an invalid IPv4 prefix"),
            ("fd00::/129", "has an invalid IPv6 prefix"),
            ("fd00::%eth0/64", "has an invalid IPv6 address"),
            ("fd00:::/64", "has an invalid IPv6 address"),
            ("10.0.0.0/8 ", "has an invalid IPv4 prefix"),
        ] {
            assert_eq!(parse_net(text), Err(format!("route '{text}' {problem}")));
        }
    }

    #[test]
    fn default_routes() {
        let parse = |lines: &[&str]| Routes::parse(lines.iter().copied()).expect("valid");
        let shown = |routes: &Routes| {
            (
                routes.default,
                routes.nets.iter().map(route_text).collect::<Vec<_>>(),
            )
        };
        assert_eq!(shown(&parse(&[])), (false, vec![]));
        assert_eq!(shown(&parse(&["10.0.0.0/8", "Default"])), (true, vec![]));
        assert_eq!(shown(&parse(&["0.0.0.0/0", "10.0.0.0/8"])), (true, vec![]));
        assert_eq!(
            shown(&parse(&["0.0.0.0/0", "fd00::/8"])),
            (false, vec!["fd00::/8".into()])
        );
        assert_eq!(
            shown(&parse(&["::/0", "10.0.0.0/8"])),
            (false, vec!["10.0.0.0/255.0.0.0".into()])
        );
        let both = parse(&["10.0.0.0/8"]).with(&parse(&["fd00::/8"]));
        assert_eq!(
            shown(&both),
            (false, vec!["10.0.0.0/255.0.0.0".into(), "fd00::/8".into()])
        );
        assert_eq!(shown(&both.with(&parse(&["default"]))), (true, vec![]));
        assert_eq!(
            Routes::parse(["10.0.0.0/8", "x"]).err().map(|(index, _)| index),
            Some(1)
        );
    }

    proptest! {
        #[test]
        fn printed_routes_read_back_as_themselves(bytes: [u8; 16], length in 0u8..=128, v4: bool) {
            let net: IpNet = if v4 {
                let [a, b, c, d, ..] = bytes;
                IpNet::new(Ipv4Addr::new(a, b, c, d).into(), length % 33).expect("length fits")
            } else {
                IpNet::new(Ipv6Addr::from(bytes).into(), length).expect("length fits")
            };
            prop_assert_eq!(parse_net(&route_text(&net)), Ok(net));
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let _ = parse_net(&text);
        }
    }
}
