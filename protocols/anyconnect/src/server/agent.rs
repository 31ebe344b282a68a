//! What a client says about itself (`specs/anyconnect.md` §5.4).

use culvert_wire::http::Headers;

/// Longest text that is kept, in octets.
const TEXT_MAX: usize = 63;

/// Kind of client program, from its `User-Agent`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientClass {
    /// openconnect 4 and later, and what derives from it.
    OpenConnect,
    /// openconnect up to version 3: bare `auth` documents, no IPv6 routes and DNS.
    OpenConnectV3,
    /// Cisco's clients.
    AnyConnect,
    /// Clavister OneConnect.
    Clavister,
    /// AnyLink Secure Client.
    AnyLink,
    /// Cisco's telephones, which use `/svc`.
    IpPhone,
    /// Anything else; treated as a modern client.
    #[default]
    Unknown,
}

/// Prefixes of `User-Agent`, in any case; the first match counts.
const CLASSES: [(&str, ClientClass); 9] = [
    ("Open AnyConnect VPN Agent v", ClientClass::OpenConnect),
    ("Cisco AnyConnect VPN Agent for Apple", ClientClass::AnyConnect),
    ("OpenConnect VPN Agent", ClientClass::OpenConnect),
    ("Cisco AnyConnect", ClientClass::AnyConnect),
    ("AnyConnect-compatible OpenConnect", ClientClass::OpenConnect),
    ("AnyConnect", ClientClass::AnyConnect),
    ("Clavister OneConnect VPN", ClientClass::Clavister),
    ("AnyLink Secure Client", ClientClass::AnyLink),
    ("Cisco SVC IPPhone Client", ClientClass::IpPhone),
];

/// Description of a client. Every text is the client's own: escape it before showing it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// Kind of program.
    pub class: ClientClass,
    /// `User-Agent`, at most 63 octets.
    pub user_agent: String,
    /// `X-AnyConnect-Identifier-DeviceType`, at most 63 octets.
    pub device_type: String,
    /// `X-AnyConnect-Identifier-Platform`, at most 63 octets.
    pub platform: String,
    /// A telephone or tablet: the mobile timers apply.
    pub mobile: bool,
    /// Apple iOS, which needs a special IPv6 route.
    pub ios: bool,
}

impl ClientInfo {
    /// Takes over what these request headers say; what they leave out stays.
    pub fn update(&mut self, headers: &Headers) {
        if let Some(agent) = headers.get("User-Agent") {
            self.class = class_of(agent);
            self.ios |= has_prefix(agent, "Cisco AnyConnect VPN Agent for Apple");
            self.user_agent = cut(agent);
        }
        if let Some(device_type) = headers.get("X-AnyConnect-Identifier-DeviceType") {
            self.device_type = cut(device_type);
        }
        if let Some(platform) = headers.get("X-AnyConnect-Identifier-Platform") {
            self.platform = cut(platform);
            self.ios |= has_prefix(platform, "apple-ios");
            self.mobile = has_prefix(platform, "apple-ios") || has_prefix(platform, "android");
        }
    }
}

fn class_of(agent: &str) -> ClientClass {
    let Some((prefix, class)) = CLASSES.iter().find(|(prefix, _)| has_prefix(agent, prefix)) else {
        return ClientClass::Unknown;
    };
    let version: String = agent
        .chars()
        .skip(prefix.len())
        .take_while(char::is_ascii_digit)
        .take(6)
        .collect();
    if prefix.ends_with('v') && version.parse::<u32>().is_ok_and(|version| version <= 3) {
        return ClientClass::OpenConnectV3;
    }
    *class
}

fn has_prefix(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn cut(text: &str) -> String {
    let end = (0..=TEXT_MAX.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        for (agent, class) in [
            ("Open AnyConnect VPN Agent v3.02", ClientClass::OpenConnectV3),
            ("Open AnyConnect VPN Agent v9.01-3", ClientClass::OpenConnect),
            ("open anyconnect vpn agent v", ClientClass::OpenConnect),
            (
                "AnyConnect-compatible OpenConnect VPN Agent v9.21",
                ClientClass::OpenConnect,
            ),
            ("AnyConnect Darwin_i386 3.1.05160", ClientClass::AnyConnect),
            (
                "Cisco AnyConnect VPN Agent for Windows 4.10",
                ClientClass::AnyConnect,
            ),
            ("Cisco SVC IPPhone Client v1.0", ClientClass::IpPhone),
            ("curl/8", ClientClass::Unknown),
            ("Ünicode", ClientClass::Unknown),
        ] {
            assert_eq!(class_of(agent), class, "{agent}");
        }
    }

    #[test]
    fn mobile_clients() {
        let mut info = ClientInfo::default();
        info.update(
            &[
                ("X-AnyConnect-Identifier-Platform", "Android"),
                ("User-Agent", "x"),
            ]
            .into_iter()
            .collect(),
        );
        assert!(info.mobile && !info.ios);
        let agent = format!("Cisco AnyConnect VPN Agent for Apple iPhone {}", "é".repeat(40));
        info.update(&[("user-agent", agent)].into_iter().collect());
        assert!(info.ios && info.user_agent.len() <= TEXT_MAX);
    }
}
