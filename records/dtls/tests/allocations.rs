//! Sealing and opening packets of an established association allocates nothing.

use std::time::Instant;

use culvert_dtls::{CipherSuite, ClientConfig, Connection, Opened, ServerConfig};
use culvert_record::ChannelState;
use culvert_vocab::SecretBytes;

fn deliver(from: &mut Connection, to: &mut Connection, now: Instant) {
    while let Some(mut datagram) = from.poll_transmit() {
        let mut rest = &mut datagram[..];
        while !rest.is_empty() {
            let Opened::Nothing { consumed } = to.open_record(now, rest) else {
                panic!("data")
            };
            rest = &mut rest[consumed..];
        }
    }
}

#[test]
fn steady_state_allocates_nothing() {
    for suite in CipherSuite::PSK {
        let now = Instant::now();
        let psk = SecretBytes::new(vec![1; 32]);
        let config = ClientConfig {
            suites: vec![suite],
            ..ClientConfig::new(psk.clone(), Vec::new())
        };
        let mut client = Connection::client(config, now);
        let mut server = Connection::server(ServerConfig::new(psk), now);
        while client.state() != ChannelState::Established {
            deliver(&mut client, &mut server, now);
            deliver(&mut server, &mut client, now);
        }
        let mut buffer = vec![0; 2048];
        let mut one_packet = || {
            let len = client.seal_application(&mut buffer, 1400).unwrap();
            let Opened::Application { payload, .. } = server.open_record(now, &mut buffer[..len]) else {
                panic!("not opened");
            };
            assert_eq!(payload.len(), 1400);
        };
        one_packet();
        let counted = allocation_counter::measure(|| (0..100).for_each(|_| one_packet()));
        assert_eq!(counted.count_total, 0, "{suite:?}");
    }
}
