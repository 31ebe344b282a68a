//! The servers file: `host[/ourhost] secret`, one per line.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use culvert_vocab::SecretBytes;

use super::ConfigError;
use super::lines::{self, Lines};

/// Secrets by server.
#[derive(Debug, Default)]
pub(super) struct Secrets(HashMap<String, SecretBytes>);

impl Secrets {
    pub(super) fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = lines::read(path)?;
        let mut secrets = HashMap::new();
        for line in Lines::new(path, &text) {
            let line = line?;
            let host = line
                .keyword
                .split_once('/')
                .map_or(line.keyword, |(host, _our_name)| host);
            let secret = SecretBytes::new(line.value()?.as_bytes().to_vec());
            // As for most files of this kind, the first line counts.
            secrets.entry(key(host)).or_insert(secret);
        }
        Ok(Self(secrets))
    }

    pub(super) fn of(&self, host: &str) -> Option<SecretBytes> {
        self.0.get(&key(host)).cloned()
    }
}

/// Names in lower case, addresses in their usual form.
fn key(host: &str) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => host.to_ascii_lowercase(),
    }
}
