//! First datagrams: which session does a datagram of an unknown address belong to
//! (`specs/cstp-dtls.md` §7.3)?

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use culvert_dtls::{HelloError, hello_identifier};
use culvert_esp::{Spi, spi_of};

/// A session gets a new path at most this often.
const INTERVAL: Duration = Duration::from_secs(3);

/// What names a session in a ClientHello.
pub(crate) type Identifier = [u8; 32];

/// Sessions that may use UDP, by what a first datagram tells.
pub(crate) struct FirstDatagrams<K> {
    sessions: HashMap<K, Session>,
    by_identifier: HashMap<Identifier, K>,
    by_spi: HashMap<Spi, K>,
    by_address: HashMap<IpAddr, Vec<K>>,
}

struct Session {
    identifier: Identifier,
    /// Where its datagrams come from, as far as known.
    address: IpAddr,
    /// Last time that a ClientHello was found to be its own.
    last_hello: Option<Instant>,
    /// The same for another record.
    last_record: Option<Instant>,
}

/// What a first datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// A ClientHello with the session's identifier, which is a secret: the sender is the client.
    Hello,
    /// Another record from the session's address. It only becomes believable when it
    /// authenticates.
    Record,
}

/// What [`FirstDatagrams::find`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding<K> {
    /// A new path of this session.
    Path(K, First),
    /// Nothing to care about: junk, or a session that had a new path a moment ago.
    Nothing,
    /// Of no session here: perhaps of one that is kept elsewhere, with its identifier if it is a
    /// ClientHello.
    Unknown(Option<Identifier>),
}

/// No record of DTLS begins like the SPIs that are given to clients.
fn is_esp(packet: &[u8]) -> bool {
    packet.first().is_some_and(|octet| *octet >= 0x40)
}

impl<K: Copy + Eq + Hash> FirstDatagrams<K> {
    pub(crate) fn new() -> Self {
        Self {
            sessions: HashMap::new(),
            by_identifier: HashMap::new(),
            by_spi: HashMap::new(),
            by_address: HashMap::new(),
        }
    }

    /// True when no session has this identifier, or the SPI that follows from it.
    pub(crate) fn is_free(&self, identifier: &Identifier) -> bool {
        !self.by_identifier.contains_key(identifier)
            && !self.by_spi.contains_key(&Spi::of_session(identifier))
    }

    /// A session begins; its datagrams are expected from `address`.
    pub(crate) fn add(&mut self, key: K, identifier: Identifier, address: IpAddr) {
        self.remove(key);
        let session = Session {
            identifier,
            address,
            last_hello: None,
            last_record: None,
        };
        self.sessions.insert(key, session);
        self.by_identifier.insert(identifier, key);
        self.by_spi.insert(Spi::of_session(&identifier), key);
        self.by_address.entry(address).or_default().push(key);
    }

    /// A session ends.
    pub(crate) fn remove(&mut self, key: K) {
        if let Some(session) = self.sessions.remove(&key) {
            self.by_identifier.remove(&session.identifier);
            if self.by_spi.get(&Spi::of_session(&session.identifier)) == Some(&key) {
                self.by_spi.remove(&Spi::of_session(&session.identifier));
            }
            self.forget_address(key, session.address);
        }
    }

    /// What a datagram from `source` means.
    pub(crate) fn find(&mut self, now: Instant, source: IpAddr, packet: &[u8]) -> Finding<K> {
        let (key, first) = match hello_identifier(packet, true).map(Identifier::try_from) {
            _ if is_esp(packet) => match spi_of(packet).and_then(|spi| self.by_spi.get(&spi)) {
                Some(key) => (*key, First::Record),
                None => return Finding::Unknown(None),
            },
            Ok(Ok(identifier)) => match self.by_identifier.get(&identifier) {
                Some(key) => (*key, First::Hello),
                None => return Finding::Unknown(Some(identifier)),
            },
            Err(HelloError::NotHandshake) => match self.by_address.get(&source).map(Vec::as_slice) {
                Some([only]) => (*only, First::Record),
                // Several could be meant.
                Some(_) => return Finding::Nothing,
                None => return Finding::Unknown(None),
            },
            Ok(Err(_)) | Err(_) => return Finding::Nothing,
        };
        let Some(session) = self.sessions.get_mut(&key) else {
            return Finding::Nothing;
        };
        // Limited apart: anybody can send records in the name of the client's address, and must not
        // keep its handshakes away.
        let last = match first {
            First::Hello => &mut session.last_hello,
            First::Record => &mut session.last_record,
        };
        if last.is_some_and(|last| now.duration_since(last) <= INTERVAL) {
            return Finding::Nothing;
        }
        *last = Some(now);
        let previous = session.address;
        if first == First::Hello && previous != source {
            session.address = source;
            self.forget_address(key, previous);
            self.by_address.entry(source).or_default().push(key);
        }
        Finding::Path(key, first)
    }

    fn forget_address(&mut self, key: K, address: IpAddr) {
        if let Some(sessions) = self.by_address.get_mut(&address) {
            sessions.retain(|other| *other != key);
            if sessions.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use culvert_dtls::{ClientConfig, Connection};
    use culvert_vocab::SecretBytes;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

    fn hello(identifier: Identifier) -> Vec<u8> {
        let config = ClientConfig::new(SecretBytes::new(vec![7; 32]), identifier.to_vec());
        Connection::client(config, Instant::now())
            .poll_transmit()
            .unwrap()
    }

    /// A record of an established association, as far as anybody can see.
    fn record() -> Vec<u8> {
        let mut record = vec![23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 32];
        record.extend_from_slice(&[0; 32]);
        record
    }

    #[test]
    fn a_hello_is_found_by_its_identifier_wherever_it_comes_from() {
        let now = Instant::now();
        let mut first = FirstDatagrams::new();
        first.add(1, [1; 32], HOME);
        first.add(2, [2; 32], HOME);
        assert_eq!(
            first.find(now, AWAY, &hello([2; 32])),
            Finding::Path(2, First::Hello)
        );
        assert_eq!(
            first.find(now, AWAY, &hello([3; 32])),
            Finding::Unknown(Some([3; 32]))
        );
        // Session 2 has moved, so records are no longer ambiguous.
        assert_eq!(first.find(now, HOME, &record()), Finding::Path(1, First::Record));
        assert_eq!(first.find(now, AWAY, &record()), Finding::Path(2, First::Record));
    }

    #[test]
    fn records_need_a_single_session_of_their_address() {
        let now = Instant::now();
        let mut first = FirstDatagrams::new();
        first.add(1, [1; 32], HOME);
        first.add(2, [2; 32], HOME);
        assert_eq!(first.find(now, HOME, &record()), Finding::Nothing);
        first.remove(1);
        assert_eq!(first.find(now, HOME, &record()), Finding::Path(2, First::Record));
        first.remove(2);
        assert_eq!(first.find(now, HOME, &record()), Finding::Unknown(None));
        assert!(first.by_address.is_empty() && first.by_identifier.is_empty());
    }

    #[test]
    fn esp_packets_are_found_by_their_spi() {
        let now = Instant::now();
        let mut first = FirstDatagrams::new();
        first.add(1, [1; 32], HOME);
        first.add(2, [2; 32], HOME);
        let packet = |identifier: Identifier| {
            let mut packet = Spi::of_session(&identifier).get().to_be_bytes().to_vec();
            packet.extend_from_slice(&[0; 60]);
            packet
        };
        assert_eq!(
            first.find(now, AWAY, &packet([2; 32])),
            Finding::Path(2, First::Record)
        );
        assert_eq!(
            first.find(now, AWAY, &packet([2; 32])),
            Finding::Nothing,
            "too soon"
        );
        assert_eq!(first.find(now, HOME, &packet([3; 32])), Finding::Unknown(None));
        // Identifiers that lead to the same SPI are not given to two sessions.
        let mut twin = [1; 32];
        twin[31] = 9;
        assert!(!first.is_free(&twin) && !first.is_free(&[1; 32]) && first.is_free(&[4; 32]));
        first.remove(1);
        assert!(first.is_free(&twin));
        assert_eq!(first.find(now, HOME, &packet([1; 32])), Finding::Unknown(None));
    }

    #[test]
    fn paths_change_seldom_but_records_do_not_hold_up_handshakes() {
        let now = Instant::now();
        let mut first = FirstDatagrams::new();
        first.add(1, [1; 32], HOME);
        assert_eq!(first.find(now, HOME, &record()), Finding::Path(1, First::Record));
        assert_eq!(first.find(now, HOME, &record()), Finding::Nothing);
        let hello = hello([1; 32]);
        assert_eq!(first.find(now, HOME, &hello), Finding::Path(1, First::Hello));
        assert_eq!(first.find(now, HOME, &hello), Finding::Nothing);
        let later = now + INTERVAL + Duration::from_millis(1);
        assert_eq!(first.find(later, HOME, &hello), Finding::Path(1, First::Hello));
    }

    proptest::proptest! {
        #[test]
        fn strangers_never_panic(packet: Vec<u8>) {
            let mut first = FirstDatagrams::new();
            first.add(1, [1; 32], HOME);
            let found = first.find(Instant::now(), AWAY, &packet);
            proptest::prop_assert!(!matches!(found, Finding::Path(..)));
        }
    }
}
