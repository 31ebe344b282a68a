//! Captured handshakes of real peers (`tests/vectors/`): keys, Finished values and plaintexts are
//! checked, and each side is played by us with the recorded random values.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use culvert_record::ChannelState;
use culvert_vocab::SecretBytes;

use crate::config::Random;
use crate::handshake::exchange::Exchange;
use crate::handshake::keys::{MasterSecret, psk_premaster};
use crate::handshake::messages::{ClientHello, ServerHello};
use crate::record::{DTLS10, HEADER_LEN, InEpoch, Parameters, RecordHeader, content_type};
use crate::{
    CipherSuite, ClientConfig, Connection, Error, HelloError, Opened, ResumptionConfig, ServerConfig,
    Version, hello_identifier,
};

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
/// Octets of record header and message header.
const HEADERS: usize = HEADER_LEN + 12;

struct Vector {
    values: BTreeMap<String, Vec<u8>>,
    version: Version,
    suite: CipherSuite,
    extended_master_secret: bool,
    encrypt_then_mac: bool,
    datagrams: Vec<Datagram>,
}

#[derive(Clone)]
struct Datagram {
    from_client: bool,
    bytes: Vec<u8>,
    records: Vec<Record>,
}

#[derive(Clone)]
struct Record {
    content_type: u8,
    plaintext: Vec<u8>,
}

impl Vector {
    fn load(name: &str) -> Self {
        let path = format!("{}/tests/vectors/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap();
        let field = |name: &str| {
            let (_, rest) = text.split_once(name).unwrap();
            rest.split_whitespace().next().unwrap().to_owned()
        };
        let suite = u16::from_str_radix(&field("# suite="), 16).unwrap();
        let mut values = BTreeMap::new();
        let mut datagrams: Vec<Datagram> = Vec::new();
        for line in text.lines() {
            if let Some(hex) = line.strip_prefix("C>S ").or(line.strip_prefix("S>C ")) {
                let from_client = line.starts_with('C');
                datagrams.push(Datagram {
                    from_client,
                    bytes: unhex(hex),
                    records: Vec::new(),
                });
            } else if let Some(rest) = line.strip_prefix("#   record type=") {
                let content_type = rest.split_whitespace().next().unwrap().parse().unwrap();
                let records = &mut datagrams.last_mut().unwrap().records;
                records.push(Record {
                    content_type,
                    plaintext: Vec::new(),
                });
            } else if let Some(hex) = line.strip_prefix("#     plaintext=") {
                datagrams
                    .last_mut()
                    .unwrap()
                    .records
                    .last_mut()
                    .unwrap()
                    .plaintext = unhex(hex);
            } else if let Some((key, hex)) = line.split_once('=').filter(|_| !line.starts_with('#'))
                && key != "outer_tls12_suite"
            {
                values.insert(key.to_owned(), unhex(hex));
            }
        }
        Self {
            values,
            version: match field("negotiated version=").as_str() {
                "0100" => Version::Dtls09,
                _ => Version::Dtls12,
            },
            suite: CipherSuite::from_id(suite).unwrap(),
            extended_master_secret: field("extended_master_secret=") == "1",
            encrypt_then_mac: field("encrypt_then_mac=") == "1",
            datagrams,
        }
    }

    fn value(&self, key: &str) -> &[u8] {
        self.values.get(key).unwrap_or_else(|| panic!("no {key}"))
    }

    fn psk(&self) -> SecretBytes {
        SecretBytes::new(self.value("psk").to_vec())
    }

    /// Random values that the server of the vector drew: random and session id of each ServerHello.
    fn server_randoms(&self) -> Replay {
        let mut randoms = VecDeque::new();
        for datagram in self.datagrams.iter().filter(|datagram| !datagram.from_client) {
            let in_epoch_0 = datagram.bytes[3..5] == [0, 0];
            let message = if in_epoch_0 {
                &datagram.bytes[HEADER_LEN..]
            } else {
                &datagram.records[0].plaintext[..]
            };
            if datagram.records[0].content_type == content_type::HANDSHAKE && message[0] == SERVER_HELLO {
                let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
                let hello = ServerHello::parse(&message[12..12 + length]).unwrap();
                randoms.push_back(hello.random.to_vec());
                if !self.is_resumption() {
                    randoms.push_back(hello.session_id);
                }
            }
        }
        Replay(randoms)
    }

    fn is_resumption(&self) -> bool {
        !self.values.contains_key("psk")
    }

    fn resumption(&self) -> ResumptionConfig {
        let secret = SecretBytes::new(self.value("master_secret").to_vec());
        let hello = ClientHello::parse(&self.datagrams[0].bytes[HEADERS..]).unwrap();
        ResumptionConfig::server(self.version, self.suite, secret, hello.session_id)
    }

    fn server(&self, now: Instant) -> Connection {
        if self.is_resumption() {
            let random = Box::new(self.server_randoms());
            return Connection::resuming_server_with_random(self.resumption(), now, random);
        }
        let config = ServerConfig {
            suites: vec![self.suite],
            extended_master_secret: self.extended_master_secret,
            encrypt_then_mac: self.encrypt_then_mac,
            ..ServerConfig::new(self.psk())
        };
        Connection::server_with_random(config, now, Box::new(self.server_randoms()))
    }

    /// A client that has not sent anything yet.
    fn client(&self, now: Instant) -> Connection {
        let mut client = match self.is_resumption() {
            true => Connection::resuming_client(self.resumption(), now),
            false => Connection::client(ClientConfig::new(self.psk(), Vec::new()), now),
        };
        client.write.active = crate::record::Sealer::plain(self.version);
        while client.poll_transmit().is_some() {}
        client
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .trim()
        .chars()
        .map(|digit| digit.to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// Gives recorded values in order.
struct Replay(VecDeque<Vec<u8>>);

impl Random for Replay {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), Error> {
        out.copy_from_slice(&self.0.pop_front().ok_or(Error::Random)?);
        Ok(())
    }
}

/// Records of ours to be compared with those of the vector.
#[derive(Clone, Copy, PartialEq)]
enum Compare {
    All,
    /// Only those of epoch 0: the others have random nonces or IVs.
    Epoch0,
}

impl Compare {
    fn records(self, mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        while let Some(header) = RecordHeader::parse(bytes) {
            let (record, rest) = bytes.split_at(HEADER_LEN + usize::from(header.length));
            if self == Self::All || header.epoch == 0 {
                let mut record = record.to_vec();
                if header.version == 0xfefd && header.epoch == 0 && record[HEADER_LEN] == CLIENT_HELLO {
                    // So does GnuTLS when it resumes; ours is always that of the first flight.
                    record[1..3].copy_from_slice(&DTLS10.to_be_bytes());
                }
                records.push(record);
            }
            bytes = rest;
        }
        assert!(bytes.is_empty());
        records
    }
}

/// Plays one side of a vector; returns the connection at the end.
fn play(vector: &Vector, as_client: bool, compare: Compare) -> Connection {
    let now = Instant::now();
    let mut connection = if as_client {
        vector.client(now)
    } else {
        vector.server(now)
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for datagram in &vector.datagrams {
        let header = RecordHeader::parse(&datagram.bytes).unwrap();
        let is_data = header.content_type == content_type::APPLICATION_DATA;
        let is_cut = is_data && datagram.bytes.len() < HEADER_LEN + usize::from(header.length);
        if datagram.from_client != as_client {
            if !is_cut {
                receive(&mut connection, datagram, now);
                ours.extend(
                    std::iter::from_fn(|| connection.poll_transmit()).flat_map(|sent| compare.records(&sent)),
                );
            }
            continue;
        }
        if header.content_type == content_type::ALERT {
            break;
        }
        if is_data {
            let sealed = seal(&mut connection, &datagram.records[0].plaintext);
            if compare == Compare::All && !is_cut {
                assert_eq!(sealed, datagram.bytes);
            }
            continue;
        }
        theirs.extend(compare.records(&datagram.bytes));
        let message = if header.epoch == 0 {
            &datagram.bytes[HEADER_LEN..]
        } else {
            &datagram.records[0].plaintext
        };
        let is_hello = header.content_type == content_type::HANDSHAKE && message[0] == CLIENT_HELLO;
        if as_client && is_hello && message[4..6] == [0, 0] {
            let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
            let hello = ClientHello::parse(&message[12..12 + length]).unwrap();
            begin(&mut connection, hello, now);
            ours.extend(
                std::iter::from_fn(|| connection.poll_transmit()).flat_map(|sent| compare.records(&sent)),
            );
        }
    }
    assert_eq!(
        connection.state(),
        ChannelState::Established,
        "{:?}",
        connection.failure()
    );
    assert!(!connection.is_rekeying());
    assert_eq!(ours, theirs);
    connection
}

/// Starts the (first or a further) handshake of a client with a recorded ClientHello.
fn begin(connection: &mut Connection, hello: ClientHello, now: Instant) {
    let previous = match &connection.status {
        crate::connection::Status::Established { agreement, .. } => Some(agreement.clone()),
        _ => None,
    };
    let epoch = connection.write.active.epoch();
    let (exchange, flight) = Exchange::begin_client(&connection.role, hello, epoch, previous, now);
    connection.start_exchange(exchange, flight, now).unwrap();
}

fn receive(connection: &mut Connection, datagram: &Datagram, now: Instant) {
    let mut bytes = datagram.bytes.clone();
    let mut rest = &mut bytes[..];
    let mut data = Vec::new();
    while !rest.is_empty() {
        let consumed = match connection.open_record(now, rest) {
            Opened::Nothing { consumed } => consumed,
            Opened::Application { consumed, payload } => {
                data.push(rest[payload].to_vec());
                consumed
            }
        };
        rest = &mut rest[consumed..];
    }
    let expected: Vec<_> = datagram
        .records
        .iter()
        .filter(|record| record.content_type == content_type::APPLICATION_DATA)
        .map(|record| record.plaintext.clone())
        .collect();
    assert_eq!(data, expected);
}

fn seal(connection: &mut Connection, payload: &[u8]) -> Vec<u8> {
    let mut record = vec![0; connection.headroom()];
    record.extend_from_slice(payload);
    record.resize(record.len() + connection.tailroom(), 0);
    let len = connection.seal_application(&mut record, payload.len()).unwrap();
    assert_eq!(len, connection.sealed_len(payload.len()));
    record.truncate(len);
    record
}

/// Premaster secret, master secret, key block and Finished values; `prefix` is that of the names.
fn check_keys(vector: &Vector, prefix: &str) {
    let value = |key: &str| vector.value(&format!("{prefix}{key}"));
    let client: [u8; 32] = value("client_random").try_into().unwrap();
    let server: [u8; 32] = value("server_random").try_into().unwrap();
    let parameters = Parameters {
        version: vector.version,
        suite: vector.suite,
        encrypt_then_mac: vector.encrypt_then_mac,
    };
    let hash = parameters.prf_hash();
    let master = if vector.is_resumption() {
        MasterSecret::given(hash, SecretBytes::new(value("master_secret").to_vec()))
    } else {
        let premaster = psk_premaster(&vector.psk());
        assert_eq!(premaster.expose(), value("premaster_secret"));
        match vector.extended_master_secret {
            true => MasterSecret::derive_extended(hash, &premaster, value("session_hash")),
            false => MasterSecret::derive(hash, &premaster, &client, &server),
        }
    };
    let keys = master.key_block(vector.suite, &client, &server);
    assert_eq!(keys.client.key.expose(), value("client_key"));
    assert_eq!(keys.server.key.expose(), value("server_key"));
    let [client_iv, server_iv] = [&keys.client.iv, &keys.server.iv].map(SecretBytes::expose);
    let [client_mac, server_mac] = [&keys.client.mac_key, &keys.server.mac_key].map(SecretBytes::expose);
    if client_mac.is_empty() {
        assert_eq!((client_iv, server_iv), (value("client_iv"), value("server_iv")));
    } else {
        assert_eq!(
            (client_mac, server_mac),
            (value("client_mac_key"), value("server_mac_key"))
        );
    }
    assert_eq!(
        master.client_finished(value("client_finished_handshake_hash")),
        value("client_verify_data")
    );
    assert_eq!(
        master.server_finished(value("server_finished_handshake_hash")),
        value("server_verify_data")
    );
}

#[test]
fn gnutls_client_with_ocserv() {
    for name in [
        "dtls12-psk-aes256gcm",
        "dtls12-psk-aes128gcm",
        "dtls12-psk-chacha20",
        "dtls12-psk-outer-tls12",
    ] {
        let vector = Vector::load(name);
        check_keys(&vector, "");
        play(&vector, true, Compare::All);
        play(&vector, false, Compare::All);
    }
}

#[test]
fn gnutls_client_with_ocserv_cbc() {
    let vector = Vector::load("dtls12-psk-aes128cbc-sha1");
    check_keys(&vector, "");
    play(&vector, true, Compare::Epoch0);
    play(&vector, false, Compare::Epoch0);
}

#[test]
fn openssl_client_with_ocserv() {
    let vector = Vector::load("dtls12-psk-openssl-client");
    check_keys(&vector, "");
    play(&vector, true, Compare::Epoch0);
    play(&vector, false, Compare::All);
}

#[test]
fn resumption_with_ocserv() {
    for name in [
        "aes128-gcm-sha256",
        "ecdhe-rsa-aes256gcm",
        "oc-dtls1-2-aes128-gcm",
        "oc-dtls1-2-aes256-gcm",
    ] {
        let vector = Vector::load(&format!("dtls12-resume-{name}"));
        check_keys(&vector, "");
        play(&vector, true, Compare::All);
        play(&vector, false, Compare::All);
    }
    let vector = Vector::load("dtls12-resume-ecdhe-rsa-aes256gcm-openssl-client");
    check_keys(&vector, "");
    play(&vector, true, Compare::Epoch0);
    play(&vector, false, Compare::All);
}

#[test]
fn dtls_09_with_ocserv() {
    for name in [
        "aes128-sha",
        "aes256-sha",
        "des-cbc3-sha",
        "aes128-sha-openssl-client",
    ] {
        let vector = Vector::load(&format!("dtls09-{name}"));
        check_keys(&vector, "");
        play(&vector, true, Compare::Epoch0);
        play(&vector, false, Compare::Epoch0);
    }
}

#[test]
fn rehandshake_in_place() {
    let vector = Vector::load("dtls12-psk-rehandshake");
    check_keys(&vector, "");
    check_keys(&vector, "rehandshake_");
    for as_client in [true, false] {
        let connection = play(&vector, as_client, Compare::All);
        assert_eq!(connection.write.active.epoch(), 2);
    }
}

/// OpenSSL's server sends more messages than ours, so only the client can be played: cookie
/// exchange, identity hint, ticket, extended master secret, encrypt-then-MAC.
#[test]
fn openssl_server() {
    for name in ["dtls12-psk-ems-cookie-ticket", "dtls12-psk-cbc-sha256-ems-etm"] {
        let vector = Vector::load(name);
        check_keys(&vector, "");
        play(&vector, true, Compare::Epoch0);
    }
}

#[test]
fn identifier_of_captured_hellos() {
    let vector = Vector::load("dtls12-psk-aes256gcm");
    let hello = &vector.datagrams[0].bytes;
    let app_id = &hello[60..92];
    assert_eq!(hello_identifier(hello, true), Ok(app_id));
    assert_eq!(hello_identifier(&hello[..92], true), Err(HelloError::Short));
    assert_eq!(hello_identifier(&hello[..93], true), Err(HelloError::Malformed));
    assert_eq!(
        hello_identifier(&vector.datagrams[3].bytes, true),
        Err(HelloError::Malformed)
    );
    assert_eq!(
        hello_identifier(&vector.datagrams[6].bytes, true),
        Err(HelloError::NotHandshake)
    );

    let mut zero = hello.clone();
    zero[27..59].fill(0);
    assert_eq!(hello_identifier(&zero, true), Err(HelloError::ZeroRandom));

    let vector = Vector::load("dtls12-psk-ems-cookie-ticket");
    assert_eq!(
        hello_identifier(&vector.datagrams[0].bytes, true),
        Err(HelloError::NoIdentifier)
    );
}

#[test]
fn app_id_extension_comes_before_the_session_id() {
    let vector = Vector::load("dtls12-psk-aes256gcm");
    let parsed = ClientHello::parse(&vector.datagrams[0].bytes[HEADERS..]).unwrap();
    let with_extension = |content: &[u8]| {
        let mut hello = parsed.clone();
        hello.extensions.push((48018, content.to_vec()));
        let mut connection = vector.client(Instant::now());
        begin(&mut connection, hello, Instant::now());
        connection.poll_transmit().unwrap()
    };
    let datagram = with_extension(b"\x05hello");
    assert_eq!(hello_identifier(&datagram, true), Ok(&b"hello"[..]));
    assert_eq!(hello_identifier(&datagram, false), Ok(&parsed.session_id[..]));
    assert_eq!(
        hello_identifier(&with_extension(b"\x06hello"), true),
        Err(HelloError::Malformed)
    );
    assert_eq!(
        hello_identifier(&with_extension(b"\x00"), true),
        Err(HelloError::NoIdentifier)
    );
    let too_long = [&[33][..], &[1; 33]].concat();
    assert_eq!(
        hello_identifier(&with_extension(&too_long), true),
        Err(HelloError::NoIdentifier)
    );
}

/// A wrong key in the vector's place must not pass: guards the tests above against being vacuous.
#[test]
fn another_key_fails() {
    let mut vector = Vector::load("dtls12-psk-aes256gcm");
    vector.values.insert("psk".to_owned(), vec![7; 32]);
    let now = Instant::now();
    let mut server = vector.server(now);
    for datagram in vector
        .datagrams
        .iter()
        .filter(|datagram| datagram.from_client)
        .take(2)
    {
        receive(&mut server, datagram, now);
    }
    assert_eq!(server.state(), ChannelState::Connecting);
}
