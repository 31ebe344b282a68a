//! The server's side of a handshake.

use subtle::ConstantTimeEq;

use super::keys::{KeyBlock, MasterSecret, psk_premaster};
use super::messages::{
    self, ClientHello, EMPTY_RENEGOTIATION_INFO_SCSV, Extension, ServerHello, extension, kind,
    parse_renegotiation_info, renegotiation_info,
};
use super::reassembly::Message;
use super::transcript::Transcript;
use super::{Agreement, NewEpoch, Step};
use crate::config::{Random, ServerConfig};
use crate::record::{DTLS10, MAX_PLAINTEXT, Parameters};
use crate::suite::Cipher;
use crate::{Error, Version};

const COOKIE_LEN: usize = 20;

/// A server in a handshake.
pub(crate) struct Server {
    /// The epoch that the handshake runs in.
    epoch: u16,
    previous: Option<Agreement>,
    transcript: Transcript,
    state: State,
}

enum State {
    ClientHello { cookie: Option<[u8; COOKIE_LEN]> },
    ClientKeyExchange { choice: Choice },
    Finished { choice: Choice, master: MasterSecret },
}

/// What the hellos agreed on.
#[derive(Clone, Copy)]
struct Choice {
    parameters: Parameters,
    client_random: [u8; 32],
    server_random: [u8; 32],
    extended_master_secret: bool,
    secure_renegotiation: bool,
    record_limit: Option<u16>,
}

impl Server {
    /// A server that awaits a ClientHello in `epoch`; `previous` is what the handshake before
    /// agreed on.
    pub(crate) fn new(epoch: u16, previous: Option<Agreement>) -> Self {
        Self {
            epoch,
            previous,
            transcript: Transcript::new(Version::Dtls12),
            state: State::ClientHello { cookie: None },
        }
    }

    /// True before an acceptable ClientHello.
    pub(crate) fn awaits_hello(&self) -> bool {
        matches!(self.state, State::ClientHello { .. })
    }

    /// Takes the next message of the client.
    pub(crate) fn handle(
        &mut self,
        message: &Message,
        config: &ServerConfig,
        random: &mut dyn Random,
    ) -> Result<Step, Error> {
        let body = message.body.as_slice();
        match (&self.state, message.kind) {
            (State::ClientHello { cookie }, kind::CLIENT_HELLO) => {
                let hello = ClientHello::parse(body)?;
                if config.cookie_exchange && self.previous.is_none() {
                    match cookie {
                        None => return self.verify_request(random),
                        Some(cookie) if bool::from(cookie.ct_eq(&hello.cookie)) => {}
                        Some(_) => return Err(Error::Cookie),
                    }
                }
                self.transcript.receive(message);
                self.answer_hello(&hello, config, random)
            }
            (State::ClientKeyExchange { choice }, kind::CLIENT_KEY_EXCHANGE) => {
                let choice = *choice;
                messages::check_client_key_exchange(body)?;
                self.transcript.receive(message);
                Ok(self.derive_keys(choice, config))
            }
            (State::Finished { choice, master }, kind::FINISHED) => {
                let hash = choice.parameters.prf_hash();
                let client_verify_data = master.client_finished(self.transcript.hash(hash).as_ref());
                if !bool::from(client_verify_data.ct_eq(body)) {
                    return Err(Error::Finished);
                }
                self.transcript.receive(message);
                let server_verify_data = master.server_finished(self.transcript.hash(hash).as_ref());
                let agreement = Agreement {
                    parameters: choice.parameters,
                    secure_renegotiation: choice.secure_renegotiation,
                    client_verify_data,
                    server_verify_data,
                    record_limit: choice.record_limit.unwrap_or(MAX_PLAINTEXT as u16),
                };
                let change_cipher_spec = self.transcript.change_cipher_spec(self.epoch);
                let next_epoch = self.epoch.checked_add(1).ok_or(Error::Exhausted)?;
                let finished = self
                    .transcript
                    .send(next_epoch, kind::FINISHED, server_verify_data.to_vec());
                let flight = vec![change_cipher_spec, finished];
                Ok(Step {
                    new_epoch: None,
                    flight,
                    agreement: Some(agreement),
                })
            }
            (_, unexpected) => Err(Error::UnexpectedMessage(unexpected)),
        }
    }

    fn verify_request(&mut self, random: &mut dyn Random) -> Result<Step, Error> {
        let mut cookie = [0; COOKIE_LEN];
        random.fill(&mut cookie)?;
        self.state = State::ClientHello { cookie: Some(cookie) };
        let body = messages::encode_hello_verify_request(DTLS10, &cookie);
        let request = self.transcript.send(self.epoch, kind::HELLO_VERIFY_REQUEST, body);
        self.transcript.clear();
        Ok(Step {
            flight: vec![request],
            ..Step::default()
        })
    }

    fn answer_hello(
        &mut self,
        hello: &ClientHello,
        config: &ServerConfig,
        random: &mut dyn Random,
    ) -> Result<Step, Error> {
        let mut choice = self.choose(hello, config)?;
        let mut session_id = vec![0; 32];
        random.fill(&mut choice.server_random)?;
        random.fill(&mut session_id)?;
        let server_hello = ServerHello {
            version: Version::Dtls12.wire(),
            random: choice.server_random,
            session_id,
            suite: choice.parameters.suite.id(),
            extensions: self.server_extensions(&choice),
        };
        let server_hello = self
            .transcript
            .send(self.epoch, kind::SERVER_HELLO, server_hello.encode());
        let done = self
            .transcript
            .send(self.epoch, kind::SERVER_HELLO_DONE, Vec::new());
        self.state = State::ClientKeyExchange { choice };
        Ok(Step {
            flight: vec![server_hello, done],
            ..Step::default()
        })
    }

    fn choose(&self, hello: &ClientHello, config: &ServerConfig) -> Result<Choice, Error> {
        hello.check(Version::Dtls12)?;
        let suite = config
            .suites
            .iter()
            .copied()
            .find(|suite| hello.suites.contains(&suite.id()))
            .ok_or(Error::NoCommonSuite)?;
        Ok(Choice {
            parameters: Parameters {
                version: Version::Dtls12,
                suite,
                encrypt_then_mac: config.encrypt_then_mac
                    && matches!(suite.cipher(), Cipher::Cbc(_))
                    && hello.extension(extension::ENCRYPT_THEN_MAC).is_some(),
            },
            client_random: hello.random,
            server_random: [0; 32],
            extended_master_secret: config.extended_master_secret
                && hello.extension(extension::EXTENDED_MASTER_SECRET).is_some(),
            secure_renegotiation: self.check_renegotiation(hello)?,
            record_limit: hello.record_limit()?,
        })
    }

    /// Whether the client knows secure renegotiation (RFC 5746 §3.6, §3.7).
    fn check_renegotiation(&self, hello: &ClientHello) -> Result<bool, Error> {
        match (hello.extension(extension::RENEGOTIATION_INFO), &self.previous) {
            (Some(content), previous) => {
                let expected = Agreement::client_renegotiation(previous.as_ref());
                if parse_renegotiation_info(content)? != expected {
                    return Err(Error::RenegotiationInfo);
                }
                Ok(true)
            }
            (None, Some(_)) => Err(Error::RenegotiationInfo),
            (None, None) => Ok(hello.suites.contains(&EMPTY_RENEGOTIATION_INFO_SCSV)),
        }
    }

    fn server_extensions(&self, choice: &Choice) -> Vec<Extension> {
        let mut extensions = Vec::new();
        if choice.secure_renegotiation {
            extensions.push(renegotiation_info(&Agreement::server_renegotiation(
                self.previous.as_ref(),
            )));
        }
        if choice.record_limit.is_some() {
            extensions.push(messages::record_size_limit());
        }
        if choice.parameters.encrypt_then_mac {
            extensions.push((extension::ENCRYPT_THEN_MAC, Vec::new()));
        }
        if choice.extended_master_secret {
            extensions.push((extension::EXTENDED_MASTER_SECRET, Vec::new()));
        }
        extensions
    }

    fn derive_keys(&mut self, choice: Choice, config: &ServerConfig) -> Step {
        let hash = choice.parameters.prf_hash();
        let premaster = psk_premaster(&config.psk);
        let master = if choice.extended_master_secret {
            MasterSecret::derive_extended(hash, &premaster, self.transcript.hash(hash).as_ref())
        } else {
            MasterSecret::derive(hash, &premaster, &choice.client_random, &choice.server_random)
        };
        let KeyBlock { client, server } = master.key_block(
            choice.parameters.suite,
            &choice.client_random,
            &choice.server_random,
        );
        self.state = State::Finished { choice, master };
        let new_epoch = NewEpoch {
            parameters: choice.parameters,
            write: server,
            read: client,
        };
        Step {
            new_epoch: Some(new_epoch),
            ..Step::default()
        }
    }
}
