//! The client's side of a handshake.

use subtle::ConstantTimeEq;

use super::flight::FlightMessage;
use super::keys::{MasterSecret, psk_premaster};
use super::messages::{
    self, ClientHello, ServerHello, extension, kind, parse_renegotiation_info, renegotiation_info,
};
use super::reassembly::Message;
use super::transcript::Transcript;
use super::{Agreement, NewEpoch, Step, VerifyData};
use crate::config::{ClientConfig, Random};
use crate::record::{MAX_PLAINTEXT, Parameters};
use crate::suite::{Cipher, MacHash};
use crate::{CipherSuite, Error, Version};

/// HelloVerifyRequests that are followed in one handshake.
pub(super) const MAX_VERIFY_REQUESTS: u8 = 3;

/// A client in a handshake.
pub(crate) struct Client {
    hello: ClientHello,
    /// The epoch that the handshake runs in.
    epoch: u16,
    previous: Option<Agreement>,
    transcript: Transcript,
    state: State,
}

enum State {
    ServerHello {
        verify_requests: u8,
    },
    ServerHelloDone {
        choice: Choice,
        key_exchange_seen: bool,
    },
    Finished {
        choice: Choice,
        master: MasterSecret,
        client_verify_data: VerifyData,
        ticket_seen: bool,
    },
}

/// What the ServerHello chose.
#[derive(Clone, Copy)]
struct Choice {
    parameters: Parameters,
    random: [u8; 32],
    extended_master_secret: bool,
    secure_renegotiation: bool,
}

impl Client {
    /// A client that is about to send `hello` in `epoch`; `previous` is what the handshake before
    /// agreed on.
    pub(crate) fn new(hello: ClientHello, epoch: u16, previous: Option<Agreement>) -> Self {
        Self {
            hello,
            epoch,
            previous,
            transcript: Transcript::new(Version::Dtls12),
            state: State::ServerHello { verify_requests: 0 },
        }
    }

    /// The flight with the ClientHello.
    pub(crate) fn hello_flight(&mut self) -> Vec<FlightMessage> {
        let body = self.hello.encode();
        vec![self.transcript.send(self.epoch, kind::CLIENT_HELLO, body)]
    }

    /// Takes the next message of the server.
    pub(crate) fn handle(&mut self, message: &Message, config: &ClientConfig) -> Result<Step, Error> {
        let body = message.body.as_slice();
        match (&mut self.state, message.kind) {
            (State::ServerHello { verify_requests }, kind::HELLO_VERIFY_REQUEST)
                if *verify_requests < MAX_VERIFY_REQUESTS && self.previous.is_none() =>
            {
                *verify_requests += 1;
                self.hello.cookie = messages::parse_hello_verify_request(body)?.to_vec();
                self.transcript.clear();
                Ok(Step {
                    flight: self.hello_flight(),
                    ..Step::default()
                })
            }
            (State::ServerHello { .. }, kind::SERVER_HELLO) => {
                let choice = self.check_server_hello(&ServerHello::parse(body)?)?;
                self.transcript.receive(message);
                self.state = State::ServerHelloDone {
                    choice,
                    key_exchange_seen: false,
                };
                Ok(Step::default())
            }
            (
                State::ServerHelloDone {
                    key_exchange_seen, ..
                },
                kind::SERVER_KEY_EXCHANGE,
            ) if !*key_exchange_seen => {
                messages::check_server_key_exchange(body)?;
                *key_exchange_seen = true;
                self.transcript.receive(message);
                Ok(Step::default())
            }
            (State::ServerHelloDone { choice, .. }, kind::SERVER_HELLO_DONE) => {
                let choice = *choice;
                if !body.is_empty() {
                    return Err(Error::Malformed("ServerHelloDone"));
                }
                self.transcript.receive(message);
                self.key_exchange(choice, config)
            }
            // Nobody asked for a ticket, but it does no harm.
            (State::Finished { ticket_seen, .. }, kind::NEW_SESSION_TICKET) if !*ticket_seen => {
                *ticket_seen = true;
                self.transcript.receive(message);
                Ok(Step::default())
            }
            (
                State::Finished {
                    choice,
                    master,
                    client_verify_data,
                    ..
                },
                kind::FINISHED,
            ) => {
                let expected =
                    master.server_finished(self.transcript.hash(choice.parameters.prf_hash()).as_ref());
                if !bool::from(expected.ct_eq(body)) {
                    return Err(Error::Finished);
                }
                let agreement = Agreement {
                    parameters: choice.parameters,
                    secure_renegotiation: choice.secure_renegotiation,
                    client_verify_data: *client_verify_data,
                    server_verify_data: expected,
                    record_limit: MAX_PLAINTEXT as u16,
                };
                Ok(Step {
                    agreement: Some(agreement),
                    ..Step::default()
                })
            }
            (_, unexpected) => Err(Error::UnexpectedMessage(unexpected)),
        }
    }

    fn check_server_hello(&self, server: &ServerHello) -> Result<Choice, Error> {
        let mut versions = [Version::Dtls12, Version::Dtls10].into_iter();
        let before = self.previous.as_ref().map(|previous| previous.parameters.version);
        let version = versions
            .find(|version| version.wire() == server.version)
            .filter(|version| before.is_none_or(|before| before == *version))
            .ok_or(Error::Version(server.version))?;
        let suite = CipherSuite::from_id(server.suite)
            .filter(|_| self.hello.suites.contains(&server.suite))
            .filter(|suite| version == Version::Dtls12 || suite.cipher() == Cipher::Cbc(MacHash::Sha1))
            .ok_or(Error::SuiteNotOffered(server.suite))?;
        server.check_extensions(&self.hello)?;
        let secure_renegotiation = match server.extension(extension::RENEGOTIATION_INFO) {
            Some(content) => {
                let expected = Agreement::server_renegotiation(self.previous.as_ref());
                if parse_renegotiation_info(content)? != expected {
                    return Err(Error::RenegotiationInfo);
                }
                true
            }
            None if self.previous.is_some() => return Err(Error::RenegotiationInfo),
            None => false,
        };
        Ok(Choice {
            parameters: Parameters {
                version,
                suite,
                encrypt_then_mac: server.extension(extension::ENCRYPT_THEN_MAC).is_some()
                    && matches!(suite.cipher(), Cipher::Cbc(_)),
            },
            random: server.random,
            extended_master_secret: server.extension(extension::EXTENDED_MASTER_SECRET).is_some(),
            secure_renegotiation,
        })
    }

    fn key_exchange(&mut self, choice: Choice, config: &ClientConfig) -> Result<Step, Error> {
        let next_epoch = self.epoch.checked_add(1).ok_or(Error::Exhausted)?;
        let hash = choice.parameters.prf_hash();
        let body = messages::encode_client_key_exchange(&config.identity);
        let key_exchange = self.transcript.send(self.epoch, kind::CLIENT_KEY_EXCHANGE, body);
        let premaster = psk_premaster(&config.psk);
        let master = if choice.extended_master_secret {
            MasterSecret::derive_extended(hash, &premaster, self.transcript.hash(hash).as_ref())
        } else {
            MasterSecret::derive(hash, &premaster, &self.hello.random, &choice.random)
        };
        let keys = master.key_block(choice.parameters.suite, &self.hello.random, &choice.random);
        let client_verify_data = master.client_finished(self.transcript.hash(hash).as_ref());
        let change_cipher_spec = self.transcript.change_cipher_spec(self.epoch);
        let finished = self
            .transcript
            .send(next_epoch, kind::FINISHED, client_verify_data.to_vec());
        self.state = State::Finished {
            choice,
            master,
            client_verify_data,
            ticket_seen: false,
        };
        Ok(Step {
            new_epoch: Some(NewEpoch {
                parameters: choice.parameters,
                write: keys.client,
                read: keys.server,
            }),
            flight: vec![key_exchange, change_cipher_spec, finished],
            agreement: None,
        })
    }
}

/// The ClientHello that `config` asks for.
///
/// # Errors
/// [`Error::Random`].
pub(crate) fn client_hello(
    config: &ClientConfig,
    previous: Option<&Agreement>,
    random: &mut dyn Random,
) -> Result<ClientHello, Error> {
    let mut extensions = vec![renegotiation_info(&Agreement::client_renegotiation(previous))];
    if config.encrypt_then_mac {
        extensions.push((extension::ENCRYPT_THEN_MAC, Vec::new()));
    }
    if config.extended_master_secret {
        extensions.push((extension::EXTENDED_MASTER_SECRET, Vec::new()));
    }
    let mut hello = ClientHello {
        version: Version::Dtls12.wire(),
        random: [0; 32],
        session_id: config.app_id.clone(),
        cookie: Vec::new(),
        suites: config.suites.iter().map(|suite| suite.id()).collect(),
        extensions,
    };
    random.fill(&mut hello.random)?;
    Ok(hello)
}
