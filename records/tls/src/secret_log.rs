use std::sync::{Mutex, OnceLock};

use culvert_vocab::SecretBytes;
use rustls::KeyLog;

/// Label of a TLS 1.2 master secret in key logs.
const MASTER_SECRET: &str = "CLIENT_RANDOM";

/// Catches the application traffic secrets of one TLS 1.3 connection, which rustls does not give
/// away with the record keys (without them a KeyUpdate could not be followed), and the master secret
/// of TLS 1.2.
///
/// A `KeyLog` belongs to a configuration and does not learn which connection it serves, so every
/// connection gets a clone of its configuration with a `SecretLog` of its own.
#[derive(Debug, Default)]
pub(crate) struct SecretLog {
    traffic: Mutex<TrafficSecrets>,
    master: OnceLock<SecretBytes>,
}

/// First generation of the application traffic secrets.
#[derive(Debug, Default, Clone)]
pub(crate) struct TrafficSecrets {
    /// Protects what the client sends.
    pub(crate) client: Option<SecretBytes>,
    /// Protects what the server sends.
    pub(crate) server: Option<SecretBytes>,
}

impl SecretLog {
    /// The secrets of TLS 1.3, as far as there are any yet.
    pub(crate) fn traffic(&self) -> TrafficSecrets {
        self.traffic
            .lock()
            .map(|secrets| secrets.clone())
            .unwrap_or_default()
    }

    /// The master secret of a TLS 1.2 handshake.
    pub(crate) fn master(&self) -> Option<SecretBytes> {
        self.master.get().cloned()
    }
}

impl KeyLog for SecretLog {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        let Ok(mut secrets) = self.traffic.lock() else {
            return;
        };
        match label {
            // A connection has one handshake.
            MASTER_SECRET => {
                let _ = self.master.set(SecretBytes::new(secret.to_vec()));
            }
            "CLIENT_TRAFFIC_SECRET_0" => secrets.client = Some(SecretBytes::new(secret.to_vec())),
            "SERVER_TRAFFIC_SECRET_0" => secrets.server = Some(SecretBytes::new(secret.to_vec())),
            _ => {}
        }
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(
            label,
            MASTER_SECRET | "CLIENT_TRAFFIC_SECRET_0" | "SERVER_TRAFFIC_SECRET_0"
        )
    }
}
