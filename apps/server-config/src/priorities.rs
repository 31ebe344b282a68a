//! `tls-priorities`: GnuTLS priority strings (`specs/server-config.md` §10.2).

mod names;

use serde::{Deserialize, Serialize};

use names::{
    CIPHERS, CURVES, DTLS, GROUPS, KEY_EXCHANGES, MACS, Names, PROTOCOLS, SIGNATURES, TLS,
    UNAVAILABLE_PROTOCOLS, WITHOUT_EFFECT, is_flag,
};

/// An evaluated priority string: what it allows, best first, under GnuTLS's names. Signature
/// algorithms and compatibility flags are checked but not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsPriorities {
    text: String,
    protocols: Vec<String>,
    ciphers: Vec<String>,
    macs: Vec<String>,
    key_exchanges: Vec<String>,
    groups: Vec<String>,
    server_precedence: bool,
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
            first = false;
            match more {
                Some(more) => rest = more,
                None => break,
            }
        }
        sets.check()
            .map_err(|lacks| format!("error in TLS priority string: {text} (it leaves no {lacks})"))?;
        Ok(Self::new(text, sets, server_precedence))
    }

    /// What counts when nothing is configured; Cisco's old clients need TLS 1.3 off.
    pub(crate) fn default_for(cisco_client_compat: bool) -> Self {
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
        }
    }

    /// The string as configured.
    pub fn as_str(&self) -> &str {
        &self.text
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

fn owned(names: Vec<&'static str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

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

    /// What is missing for a TLS server of ours.
    fn check(&self) -> Result<(), &'static str> {
        if !self
            .protocols
            .iter()
            .any(|version| ["TLS1.2", "TLS1.3"].contains(version))
        {
            return Err("protocol version that this server has (TLS 1.2, TLS 1.3)");
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
