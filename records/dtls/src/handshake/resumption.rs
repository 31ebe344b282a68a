//! The abbreviated handshake of both sides: an earlier session that never took place is resumed
//! with a master secret that both know (`specs/cstp-dtls.md` §10, §11).

use subtle::ConstantTimeEq;

use super::client::MAX_VERIFY_REQUESTS;
use super::keys::{KeyBlock, MasterSecret};
use super::messages::{
    self, ClientHello, ServerHello, kind, parse_renegotiation_info, record_size_limit, renegotiation_info,
};
use super::reassembly::Message;
use super::transcript::Transcript;
use super::{Agreement, NewEpoch, Step, VerifyData};
use crate::config::{Random, ResumptionConfig};
use crate::handshake::flight::FlightMessage;
use crate::record::{MAX_PLAINTEXT, Parameters};
use crate::{CipherSuite, Error, Version};

/// The epoch that the handshake runs in, and the one that it opens.
const EPOCHS: (u16, u16) = (0, 1);

/// What remains when the hellos are exchanged.
struct Choice {
    parameters: Parameters,
    master: MasterSecret,
    /// Most octets of plaintext that the peer takes in a record.
    record_limit: u16,
}

impl Choice {
    fn new(config: &ResumptionConfig, suite: CipherSuite, record_limit: u16) -> Self {
        let parameters = Parameters {
            version: config.version,
            suite,
            encrypt_then_mac: false,
        };
        Self {
            parameters,
            master: MasterSecret::given(parameters.prf_hash(), config.master_secret.clone()),
            record_limit,
        }
    }

    fn client_verify_data(&self, transcript: &Transcript) -> VerifyData {
        let hash = transcript.hash(self.parameters.prf_hash());
        self.master.client_finished(&hash)
    }

    fn server_verify_data(&self, transcript: &Transcript) -> VerifyData {
        let hash = transcript.hash(self.parameters.prf_hash());
        self.master.server_finished(&hash)
    }

    fn keys(&self, client_random: &[u8; 32], server_random: &[u8; 32]) -> KeyBlock {
        self.master
            .key_block(self.parameters.suite, client_random, server_random)
    }

    fn agreement(&self, client_verify_data: VerifyData, server_verify_data: VerifyData) -> Agreement {
        Agreement {
            parameters: self.parameters,
            // A rehandshake would need a key exchange.
            secure_renegotiation: false,
            client_verify_data,
            server_verify_data,
            record_limit: self.record_limit,
        }
    }
}

/// ChangeCipherSpec and Finished.
fn finish(transcript: &mut Transcript, verify_data: VerifyData) -> [FlightMessage; 2] {
    let (epoch, next_epoch) = EPOCHS;
    let change_cipher_spec = transcript.change_cipher_spec(epoch);
    let finished = transcript.send(next_epoch, kind::FINISHED, verify_data.to_vec());
    [change_cipher_spec, finished]
}

/// A client that resumes.
pub(crate) struct ResumingClient {
    hello: ClientHello,
    transcript: Transcript,
    state: ClientState,
}

enum ClientState {
    ServerHello { verify_requests: u8 },
    Finished(Choice),
}

impl ResumingClient {
    /// A client that is about to send `hello`.
    pub(crate) fn new(hello: ClientHello, version: Version) -> Self {
        Self {
            hello,
            transcript: Transcript::new(version),
            state: ClientState::ServerHello { verify_requests: 0 },
        }
    }

    /// The flight with the ClientHello.
    pub(crate) fn hello_flight(&mut self) -> Vec<FlightMessage> {
        let body = self.hello.encode();
        vec![self.transcript.send(EPOCHS.0, kind::CLIENT_HELLO, body)]
    }

    /// Takes the next message of the server.
    pub(crate) fn handle(&mut self, message: &Message, config: &ResumptionConfig) -> Result<Step, Error> {
        let body = message.body.as_slice();
        match (&mut self.state, message.kind) {
            (ClientState::ServerHello { verify_requests }, kind::HELLO_VERIFY_REQUEST)
                if *verify_requests < MAX_VERIFY_REQUESTS =>
            {
                *verify_requests += 1;
                self.hello.cookie = messages::parse_hello_verify_request(body)?.to_vec();
                self.transcript.clear();
                Ok(Step {
                    flight: self.hello_flight(),
                    ..Step::default()
                })
            }
            (ClientState::ServerHello { .. }, kind::SERVER_HELLO) => {
                let server = ServerHello::parse(body)?;
                let choice = self.check_server_hello(&server, config)?;
                self.transcript.receive(message);
                let KeyBlock {
                    client: write,
                    server: read,
                } = choice.keys(&self.hello.random, &server.random);
                let new_epoch = NewEpoch {
                    parameters: choice.parameters,
                    write,
                    read,
                };
                self.state = ClientState::Finished(choice);
                Ok(Step {
                    new_epoch: Some(new_epoch),
                    ..Step::default()
                })
            }
            (ClientState::Finished(choice), kind::FINISHED) => {
                let server_verify_data = choice.server_verify_data(&self.transcript);
                if !bool::from(server_verify_data.ct_eq(body)) {
                    return Err(Error::Finished);
                }
                self.transcript.receive(message);
                let client_verify_data = choice.client_verify_data(&self.transcript);
                Ok(Step {
                    agreement: Some(choice.agreement(client_verify_data, server_verify_data)),
                    flight: finish(&mut self.transcript, client_verify_data).into(),
                    new_epoch: None,
                })
            }
            (_, unexpected) => Err(Error::UnexpectedMessage(unexpected)),
        }
    }

    fn check_server_hello(&self, server: &ServerHello, config: &ResumptionConfig) -> Result<Choice, Error> {
        // Another session would mean a full handshake, which nothing but a certificate that nobody
        // knows could authenticate.
        if server.session_id != config.session_id {
            return Err(Error::ResumptionRefused);
        }
        if server.version != config.version.wire() {
            return Err(Error::OtherVersion(server.version));
        }
        let mut suites = config.suites.iter().copied();
        let suite = suites
            .find(|suite| suite.id() == server.suite)
            .ok_or(Error::SuiteNotOffered(server.suite))?;
        server.check_extensions(&self.hello)?;
        if let Some(content) = server.extension(messages::extension::RENEGOTIATION_INFO)
            && !parse_renegotiation_info(content)?.is_empty()
        {
            return Err(Error::RenegotiationInfo);
        }
        Ok(Choice::new(config, suite, MAX_PLAINTEXT as u16))
    }
}

/// The ClientHello that `config` asks for.
///
/// # Errors
/// [`Error::Random`].
pub(crate) fn resuming_hello(
    config: &ResumptionConfig,
    random: &mut dyn Random,
) -> Result<ClientHello, Error> {
    let mut hello = ClientHello {
        version: config.version.wire(),
        random: [0; 32],
        session_id: config.session_id.clone(),
        cookie: Vec::new(),
        suites: config.suites.iter().map(|suite| suite.id()).collect(),
        extensions: vec![renegotiation_info(&[])],
    };
    random.fill(&mut hello.random)?;
    Ok(hello)
}

/// A server that resumes.
pub(crate) struct ResumingServer {
    transcript: Transcript,
    state: ServerState,
}

enum ServerState {
    ClientHello,
    Finished {
        choice: Choice,
        server_verify_data: VerifyData,
    },
}

impl ResumingServer {
    pub(crate) fn new(version: Version) -> Self {
        Self {
            transcript: Transcript::new(version),
            state: ServerState::ClientHello,
        }
    }

    /// Takes the next message of the client.
    pub(crate) fn handle(
        &mut self,
        message: &Message,
        config: &ResumptionConfig,
        random: &mut dyn Random,
    ) -> Result<Step, Error> {
        let body = message.body.as_slice();
        match (&self.state, message.kind) {
            (ServerState::ClientHello, kind::CLIENT_HELLO) => {
                let hello = ClientHello::parse(body)?;
                self.transcript.receive(message);
                self.answer_hello(&hello, config, random)
            }
            (
                ServerState::Finished {
                    choice,
                    server_verify_data,
                },
                kind::FINISHED,
            ) => {
                let client_verify_data = choice.client_verify_data(&self.transcript);
                if !bool::from(client_verify_data.ct_eq(body)) {
                    return Err(Error::Finished);
                }
                Ok(Step {
                    agreement: Some(choice.agreement(client_verify_data, *server_verify_data)),
                    ..Step::default()
                })
            }
            (_, unexpected) => Err(Error::UnexpectedMessage(unexpected)),
        }
    }

    fn answer_hello(
        &mut self,
        hello: &ClientHello,
        config: &ResumptionConfig,
        random: &mut dyn Random,
    ) -> Result<Step, Error> {
        hello.check(config.version)?;
        if hello.session_id != config.session_id {
            return Err(Error::ResumptionRefused);
        }
        let mut suites = config.suites.iter().copied();
        let suite = suites
            .find(|suite| hello.suites.contains(&suite.id()))
            .ok_or(Error::NoCommonSuite)?;
        let record_limit = hello.record_limit()?;
        let choice = Choice::new(config, suite, record_limit.unwrap_or(MAX_PLAINTEXT as u16));
        let mut server_hello = ServerHello {
            version: config.version.wire(),
            random: [0; 32],
            session_id: config.session_id.clone(),
            suite: suite.id(),
            extensions: record_limit.map(|_| record_size_limit()).into_iter().collect(),
        };
        random.fill(&mut server_hello.random)?;
        let KeyBlock {
            client: read,
            server: write,
        } = choice.keys(&hello.random, &server_hello.random);
        let new_epoch = NewEpoch {
            parameters: choice.parameters,
            write,
            read,
        };
        let mut flight = vec![
            self.transcript
                .send(EPOCHS.0, kind::SERVER_HELLO, server_hello.encode()),
        ];
        let server_verify_data = choice.server_verify_data(&self.transcript);
        flight.extend(finish(&mut self.transcript, server_verify_data));
        self.state = ServerState::Finished {
            choice,
            server_verify_data,
        };
        Ok(Step {
            new_epoch: Some(new_epoch),
            flight,
            agreement: None,
        })
    }
}
