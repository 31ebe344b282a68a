use std::sync::Mutex;

use culvert_vocab::SecretBytes;
use rustls::KeyLog;

/// Catches the application traffic secrets of one TLS 1.3 connection, which rustls does not give
/// away with the record keys; without them a KeyUpdate could not be followed.
///
/// A `KeyLog` belongs to a configuration and does not learn which connection it serves, so every
/// connection gets a clone of its configuration with a `SecretLog` of its own.
#[derive(Debug, Default)]
pub(crate) struct SecretLog(Mutex<TrafficSecrets>);

/// First generation of the application traffic secrets.
#[derive(Debug, Default)]
pub(crate) struct TrafficSecrets {
    /// Protects what the client sends.
    pub(crate) client: Option<SecretBytes>,
    /// Protects what the server sends.
    pub(crate) server: Option<SecretBytes>,
}

impl SecretLog {
    /// Gives the secrets away.
    pub(crate) fn take(&self) -> TrafficSecrets {
        self.0
            .lock()
            .map(|mut secrets| std::mem::take(&mut *secrets))
            .unwrap_or_default()
    }
}

impl KeyLog for SecretLog {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        let Ok(mut secrets) = self.0.lock() else { return };
        match label {
            "CLIENT_TRAFFIC_SECRET_0" => secrets.client = Some(SecretBytes::new(secret.to_vec())),
            "SERVER_TRAFFIC_SECRET_0" => secrets.server = Some(SecretBytes::new(secret.to_vec())),
            _ => {}
        }
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, "CLIENT_TRAFFIC_SECRET_0" | "SERVER_TRAFFIC_SECRET_0")
    }
}
