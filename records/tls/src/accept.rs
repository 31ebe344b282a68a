use rustls::ServerConfig;
use rustls::server::Accepted;

use crate::handshake::whole_record;
use crate::{Handshake, TlsError};

/// Longest ClientHello that is waited for, in octets. Hybrid key shares make it about 2 KiB.
const HELLO_MAX: usize = 64 * 1024;

/// Server side before the configuration is known: waits for the ClientHello, whose SNI chooses
/// the virtual host.
#[derive(Default)]
pub struct Acceptor {
    inner: rustls::server::Acceptor,
    input: Vec<u8>,
    /// Records that rustls has.
    hello: Vec<u8>,
    received: usize,
    alert: Vec<u8>,
}

/// A ClientHello that waits for its configuration.
pub struct ClientHello {
    accepted: Accepted,
    server_name: Option<String>,
    hello: Vec<u8>,
    input: Vec<u8>,
}

impl Acceptor {
    /// An acceptor that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes received octets; gives the ClientHello once it is complete. The acceptor is used up
    /// then.
    ///
    /// # Errors
    /// The peer does not speak TLS or its ClientHello is not acceptable;
    /// [`Self::poll_transmit`] may have an alert for it.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<Option<ClientHello>, TlsError> {
        self.received = self.received.saturating_add(bytes.len());
        if self.received > HELLO_MAX {
            return Err(TlsError::NotTls);
        }
        self.input.extend_from_slice(bytes);
        while let Some(record_len) = whole_record(&self.input)? {
            let mut record = self.input.get(..record_len).unwrap_or_default();
            while !record.is_empty() {
                match self.inner.read_tls(&mut record) {
                    Ok(read) if read > 0 => {}
                    _ => return Err(TlsError::NotTls),
                }
            }
            self.hello.extend(self.input.drain(..record_len));
            match self.inner.accept() {
                Ok(Some(accepted)) => {
                    let server_name = accepted.client_hello().server_name().map(str::to_owned);
                    return Ok(Some(ClientHello {
                        accepted,
                        server_name,
                        hello: std::mem::take(&mut self.hello),
                        input: std::mem::take(&mut self.input),
                    }));
                }
                Ok(None) => {}
                Err((error, mut alert)) => {
                    // Writing to a vector cannot fail.
                    let _ = alert.write_all(&mut self.alert);
                    return Err(error.into());
                }
            }
        }
        Ok(None)
    }

    /// An alert to send after an error, or `None`.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        (!self.alert.is_empty()).then(|| std::mem::take(&mut self.alert))
    }
}

impl ClientHello {
    /// The name in the client's SNI, in lower or upper case as sent.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Goes on with the handshake under `config`.
    ///
    /// # Errors
    /// The client and the configuration have nothing in common. The alert for the client is in
    /// the second part.
    pub fn into_handshake(self, config: &ServerConfig) -> Result<Handshake, (TlsError, Vec<u8>)> {
        let mut alert_out = Vec::new();
        let accepted = self.accepted;
        let mut handshake = Handshake::serve(config, (&self.hello, self.input), |config| {
            accepted.into_connection(config).map_err(|(error, mut alert)| {
                // Writing to a vector cannot fail.
                let _ = alert.write_all(&mut alert_out);
                error.into()
            })
        })
        .map_err(|error| (error, alert_out))?;
        match handshake.handle_input(&[]) {
            Ok(_) => Ok(handshake),
            Err(error) => Err((error, handshake.poll_transmit().unwrap_or_default())),
        }
    }
}
