//! GnuTLS priority strings: `tls-priorities` of the server (`specs/server-config.md` §10.2),
//! `--gnutls-priority` of the client.

#![forbid(unsafe_code)]

mod names;

use serde::{Deserialize, Serialize};

use names::{
    CIPHERS, CURVES, DTLS, GROUPS, KEY_EXCHANGES, MACS, Names, PROTOCOLS, SIGNATURES, TLS,
    UNAVAILABLE_PROTOCOLS, WITHOUT_EFFECT, is_available, is_flag, is_never_used,
};

/// An evaluated priority string: what it allows, best first, under GnuTLS's names. Compatibility flags
/// are checked but not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsPriorities {
    text: String,
    protocols: Vec<String>,
    ciphers: Vec<String>,
    macs: Vec<String>,
    key_exchanges: Vec<String>,
    groups: Vec<String>,
    server_precedence: bool,
    not_honoured: Vec<String>,
}

impl TlsPriorities {
    /// Evaluates a priority string. Names are compared without regard to case.
    ///
    /// # Errors
    /// An unknown item, or nothing left that this server could use. The text is that of the
    /// configuration error.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut sets = Sets::default();
        let mut server_precedence = false;
        let mut not_honoured = Vec::new();
        let mut rest = text;
        let mut first = true;
        loop {
            let (item, more) = match rest.split_once(':') {
                Some((item, more)) => (item, Some(more)),
                None => (rest, None),
            };
            let known = match item.split_at_checked(1) {
                Some(("+", name)) if !first => sets.add(name),
                Some(("-" | "!", name)) if !first => sets.remove(name),
                Some(("%", flag)) if !first => {
                    server_precedence |= flag.eq_ignore_ascii_case("SERVER_PRECEDENCE");
                    is_flag(flag)
                }
                _ if first => sets.start(item),
                _ => false,
            };
            if !known {
                return Err(format!("error in TLS priority string: {rest}"));
            }
            if !is_honoured(item) {
                not_honoured.push(item.to_owned());
            }
            first = false;
            match more {
                Some(more) => rest = more,
                None => break,
            }
        }
        sets.check()
            .map_err(|lacks| format!("error in TLS priority string: {text} (it leaves no {lacks})"))?;
        let alone = sets.one_key_exchange();
        not_honoured.extend(alone.map(|name| format!("only {name} in TLS 1.2")));
        Ok(Self {
            not_honoured,
            ..Self::new(text, sets, server_precedence)
        })
    }

    /// What counts when nothing is configured; Cisco's old clients need TLS 1.3 off.
    pub fn default_for(cisco_client_compat: bool) -> Self {
        let mut sets = Sets::default();
        sets.start("NORMAL");
        if cisco_client_compat {
            sets.remove("VERS-TLS1.3");
            Self::new("NORMAL:%SERVER_PRECEDENCE:%COMPAT:-VERS-TLS1.3", sets, true)
        } else {
            Self::new("NORMAL:%SERVER_PRECEDENCE:%COMPAT", sets, true)
        }
    }

    fn new(text: &str, sets: Sets, server_precedence: bool) -> Self {
        Self {
            text: text.to_owned(),
            protocols: owned(sets.protocols),
            ciphers: owned(sets.ciphers),
            macs: owned(sets.macs),
            key_exchanges: owned(sets.key_exchanges),
            groups: owned(sets.groups),
            server_precedence,
            not_honoured: Vec::new(),
        }
    }

    /// The string as configured.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the string asks for and this server cannot give, in the words of the string.
    pub fn not_honoured(&self) -> &[String] {
        &self.not_honoured
    }

    /// True when TLS 1.2 is allowed, with a key exchange that this server has in it.
    pub fn allows_tls12(&self) -> bool {
        self.allows_protocol("TLS1.2") && self.key_exchanges().any(|name| name.starts_with("ECDHE-"))
    }

    /// True when this version (`TLS1.2`, `TLS1.3`, `DTLS1.2` ...) is allowed.
    pub fn allows_protocol(&self, version: &str) -> bool {
        self.protocols.iter().any(|name| name == version)
    }

    /// Ciphers: `AES-256-GCM`, `CHACHA20-POLY1305` ...
    pub fn ciphers(&self) -> impl Iterator<Item = &str> {
        self.ciphers.iter().map(String::as_str)
    }

    /// MACs of TLS 1.2 suites: `AEAD`, `SHA1` ...
    pub fn macs(&self) -> impl Iterator<Item = &str> {
        self.macs.iter().map(String::as_str)
    }

    /// Key exchanges of TLS 1.2: `ECDHE-RSA` ...
    pub fn key_exchanges(&self) -> impl Iterator<Item = &str> {
        self.key_exchanges.iter().map(String::as_str)
    }

    /// Groups without prefix: `SECP256R1`, `X25519` ...
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(String::as_str)
    }

    /// True when the server's order decides, false when the client's does.
    pub fn server_precedence(&self) -> bool {
        self.server_precedence
    }
}

/// False for an item that adds what this server does not have, or takes away what it cannot do without.
fn is_honoured(item: &str) -> bool {
    let upper = item.to_ascii_uppercase();
    match upper.split_at_checked(1) {
        Some(("+", name)) => is_available(name),
        Some(("-" | "!", name)) => match name.strip_prefix("SIGN-") {
            Some(signature) => signature == "ALL" || is_never_used(signature),
            None => true,
        },
        _ => true,
    }
}

fn owned(names: Vec<&'static str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// Key exchanges of TLS 1.2 that this server has.
const ECDHE: Names = &["ECDHE-RSA", "ECDHE-ECDSA"];

#[derive(Debug, Default)]
struct Sets {
    protocols: Vec<&'static str>,
    ciphers: Vec<&'static str>,
    macs: Vec<&'static str>,
    key_exchanges: Vec<&'static str>,
    groups: Vec<&'static str>,
}

impl Sets {
    /// The initial set; false when `keyword` is none.
    fn start(&mut self, keyword: &str) -> bool {
        let keyword = keyword.to_ascii_uppercase();
        if keyword == "NONE" {
            return true;
        }
        self.protocols = PROTOCOLS.to_vec();
        self.ciphers = CIPHERS.all.to_vec();
        self.macs = MACS.all.to_vec();
        self.key_exchanges = KEY_EXCHANGES.all.to_vec();
        self.groups = GROUPS.all.to_vec();
        match keyword.as_str() {
            "NORMAL" | "LEGACY" => {}
            "PFS" => self.key_exchanges.retain(|&name| name != "RSA"),
            "PERFORMANCE" => {
                self.ciphers = vec![
                    "AES-128-GCM",
                    "AES-256-GCM",
                    "CHACHA20-POLY1305",
                    "AES-128-CCM",
                    "AES-256-CCM",
                    "AES-128-CBC",
                    "AES-256-CBC",
                ];
                self.key_exchanges = vec!["RSA", "ECDHE-ECDSA", "ECDHE-RSA", "DHE-RSA"];
            }
            "SECURE128" | "SECURE" => {
                self.ciphers = vec![
                    "AES-256-GCM",
                    "CHACHA20-POLY1305",
                    "AES-256-CBC",
                    "AES-256-CCM",
                    "AES-128-GCM",
                    "AES-128-CBC",
                    "AES-128-CCM",
                ];
            }
            "SECURE192" | "SECURE256" => {
                self.ciphers = vec!["AES-256-GCM", "CHACHA20-POLY1305", "AES-256-CBC", "AES-256-CCM"];
                self.macs = vec!["AEAD"];
                self.groups = vec!["SECP384R1", "SECP521R1", "FFDHE8192"];
            }
            "SUITEB128" | "SUITEB192" => {
                self.protocols = vec!["TLS1.2"];
                self.macs = vec!["AEAD"];
                self.key_exchanges = vec!["ECDHE-ECDSA"];
                if keyword == "SUITEB128" {
                    self.ciphers = vec!["AES-256-GCM", "AES-128-GCM"];
                    self.groups = vec!["SECP256R1", "SECP384R1"];
                } else {
                    self.ciphers = vec!["AES-256-GCM"];
                    self.groups = vec!["SECP384R1"];
                }
            }
            _ => return false,
        }
        true
    }

    fn add(&mut self, name: &str) -> bool {
        self.change(name, |set, names| {
            let missing: Vec<_> = names.iter().copied().filter(|name| !set.contains(name)).collect();
            set.extend(missing);
        })
    }

    fn remove(&mut self, name: &str) -> bool {
        self.change(name, |set, names| set.retain(|name| !names.contains(name)))
    }

    /// Applies `change` to the set that `name` belongs to; false when there is none.
    fn change(&mut self, name: &str, change: impl Fn(&mut Vec<&'static str>, &[&'static str])) -> bool {
        let name = name.to_ascii_uppercase();
        if let Some(version) = name.strip_prefix("VERS-") {
            let known: Names = match version {
                "ALL" => PROTOCOLS,
                "TLS-ALL" => TLS,
                "DTLS-ALL" => DTLS,
                _ if UNAVAILABLE_PROTOCOLS.contains(&version) => &[],
                _ => match PROTOCOLS.iter().position(|&known| known == version) {
                    Some(at) => &PROTOCOLS[at..=at],
                    None => return false,
                },
            };
            change(&mut self.protocols, known);
            return true;
        }
        if let Some(signature) = name.strip_prefix("SIGN-") {
            return SIGNATURES.contains(&signature);
        }
        if WITHOUT_EFFECT.contains(&name.as_str()) {
            return true;
        }
        let (set, names): (_, Names) = match name.as_str() {
            "CIPHER-ALL" => (&mut self.ciphers, CIPHERS.all),
            "MAC-ALL" => (&mut self.macs, MACS.all),
            "KX-ALL" => (&mut self.key_exchanges, KEY_EXCHANGES.all),
            "GROUP-ALL" => (&mut self.groups, GROUPS.all),
            "CURVE-ALL" => (&mut self.groups, CURVES),
            _ => return self.change_one(&name.replacen("CURVE-", "GROUP-", 1), change),
        };
        // "all" also removes what was added beyond the usual
        let mut every = names.to_vec();
        every.extend(set.iter().copied().filter(|_| name != "CURVE-ALL"));
        change(set, &every);
        true
    }

    fn change_one(&mut self, name: &str, change: impl Fn(&mut Vec<&'static str>, &[&'static str])) -> bool {
        let categories = [
            (&mut self.ciphers, &CIPHERS),
            (&mut self.macs, &MACS),
            (&mut self.key_exchanges, &KEY_EXCHANGES),
            (&mut self.groups, &GROUPS),
        ];
        for (set, category) in categories {
            let Some(bare) = name.strip_prefix(category.prefix) else {
                continue;
            };
            let mut known = category.all.iter().chain(category.others);
            if let Some(&found) = known.find(|&&known| known == bare) {
                change(set, &[found]);
                return true;
            }
        }
        false
    }

    /// The key exchange of TLS 1.2 when there is only one: in fact the certificate decides.
    fn one_key_exchange(&self) -> Option<&'static str> {
        let mut allowed = ECDHE.iter().filter(|name| self.key_exchanges.contains(name));
        match (allowed.next(), allowed.next()) {
            (Some(name), None) if self.protocols.contains(&"TLS1.2") => Some(name),
            _ => None,
        }
    }

    /// What is missing for a TLS server of ours.
    fn check(&self) -> Result<(), &'static str> {
        let versions = |version: &str| self.protocols.contains(&version);
        if !versions("TLS1.2") && !versions("TLS1.3") {
            return Err("protocol version that this server has (TLS 1.2, TLS 1.3)");
        }
        if !versions("TLS1.3") && !self.key_exchanges.iter().any(|name| ECDHE.contains(name)) {
            return Err("key exchange that this server has (ECDHE-RSA, ECDHE-ECDSA)");
        }
        if !self
            .groups
            .iter()
            .any(|name| is_available(&format!("GROUP-{name}")))
        {
            return Err("group that this server has (X25519, SECP256R1, SECP384R1)");
        }
        if !self
            .ciphers
            .iter()
            .any(|cipher| cipher.ends_with("-GCM") || *cipher == "CHACHA20-POLY1305")
        {
            return Err("cipher that this server has (AES-GCM, CHACHA20-POLY1305)");
        }
        if !self.macs.contains(&"AEAD") {
            return Err("MAC that this server has (AEAD)");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
