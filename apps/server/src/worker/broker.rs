//! Synchronous calls to the broker. Each has a deadline; after one failure the channel is not
//! used any more, since an answer could belong to an earlier question.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use culvert_tls::{ClientProof, KeyIndex, RemoteSignError};
use culvert_vocab::SecretBytes;
use rustls::SignatureScheme;
use rustls::server::StoresServerSessions;

use super::stream::{End, Stream};
use crate::ipc::fields::{Bytes, SecretField, Text};
use crate::ipc::link::Blocking;
use crate::ipc::messages::{BrokerToWorker, CertificateProof, HostIndex, WorkerToBroker};

/// Longest time for an answer that needs no login back end.
const QUICK: Duration = Duration::from_secs(10);

/// The channel to the broker.
pub(super) struct Broker {
    link: Blocking,
    failed: AtomicBool,
}

impl Broker {
    pub(super) fn new(link: Blocking) -> Self {
        Self {
            link,
            failed: AtomicBool::new(false),
        }
    }

    /// Asks something that is answered at once.
    pub(super) fn quick(&self, request: &WorkerToBroker) -> Result<BrokerToWorker, End> {
        self.send(request)?;
        self.receive()
    }

    /// Asks something that may wait for a login back end, for the client of `stream`: when that has gone
    /// or the login's time is over, nobody waits any longer.
    pub(super) fn patient(
        &self,
        request: &WorkerToBroker,
        stream: &mut Stream,
    ) -> Result<BrokerToWorker, End> {
        self.send(request)?;
        if let Err(end) = stream.wait_for(&self.link) {
            self.failed.store(true, Ordering::Relaxed);
            return Err(end);
        }
        self.receive()
    }

    fn send(&self, request: &WorkerToBroker) -> Result<(), End> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(End::Protocol("the channel to the broker has failed before"));
        }
        self.link.send(request, &[]).map_err(|error| {
            self.failed.store(true, Ordering::Relaxed);
            End::Channel(error)
        })
    }

    fn receive(&self) -> Result<BrokerToWorker, End> {
        match self.link.receive(Some(Instant::now() + QUICK)) {
            Ok(Some((answer, _))) => Ok(answer),
            Ok(None) => {
                self.failed.store(true, Ordering::Relaxed);
                Err(End::Protocol("the broker has closed its channel"))
            }
            Err(error) => {
                self.failed.store(true, Ordering::Relaxed);
                Err(End::Channel(error))
            }
        }
    }

    /// Tells the server name and learns which virtual host it is.
    pub(super) fn host(&self, server_name: Option<&str>) -> Result<HostIndex, End> {
        let name = server_name.and_then(|name| Text::new(name.to_ascii_lowercase()).ok());
        match self.quick(&WorkerToBroker::ServerName(name))? {
            BrokerToWorker::Host(host) => Ok(host),
            _ => Err(End::Protocol("the broker's answer does not fit")),
        }
    }

    /// Has a TLS handshake message signed.
    pub(super) fn sign(
        &self,
        key: KeyIndex,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, RemoteSignError> {
        let key = u8::try_from(key.0).map_err(|_| RemoteSignError("no such key".to_owned()))?;
        let message = Bytes::new(message.to_vec()).map_err(|error| RemoteSignError(error.to_string()))?;
        let request = WorkerToBroker::Sign {
            key,
            scheme: scheme.into(),
            message,
        };
        match self.quick(&request) {
            Ok(BrokerToWorker::Signature(Some(signature))) => Ok(signature.into_vec()),
            Ok(_) => Err(RemoteSignError("the broker refuses to sign".to_owned())),
            Err(error) => Err(RemoteSignError(error.to_string())),
        }
    }

    /// Has what a client signed judged.
    pub(super) fn judge_certificate(&self, proof: ClientProof) -> bool {
        let (Ok(transcript), Ok(signature)) = (Bytes::new(proof.transcript), Bytes::new(proof.signature))
        else {
            return false;
        };
        let request = WorkerToBroker::Certificate(Box::new(CertificateProof {
            tls13: proof.tls13,
            transcript,
            scheme: proof.scheme,
            signature,
        }));
        matches!(self.quick(&request), Ok(BrokerToWorker::Certificate(true)))
    }

    fn fetch(&self, id: &[u8], take: bool) -> Option<Vec<u8>> {
        let id = Bytes::new(id.to_vec()).ok()?;
        match self.quick(&WorkerToBroker::FetchTlsSession { id, take }) {
            Ok(BrokerToWorker::TlsSession(Some(data))) => Some(data.secret().expose().to_vec()),
            _ => None,
        }
    }
}

impl StoresServerSessions for Broker {
    fn put(&self, id: Vec<u8>, data: Vec<u8>) -> bool {
        let (Ok(id), Ok(data)) = (Bytes::new(id), SecretField::new(SecretBytes::new(data))) else {
            return false;
        };
        matches!(
            self.quick(&WorkerToBroker::StoreTlsSession { id, data }),
            Ok(BrokerToWorker::Stored(true))
        )
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.fetch(id, false)
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.fetch(id, true)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Broker")
    }
}
