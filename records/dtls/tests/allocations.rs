//! Sealing and opening packets of an established association allocates nothing.
#![allow(unsafe_code)] // A counting allocator cannot be written without; it only calls the system's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

use culvert_dtls::{CipherSuite, ClientConfig, Connection, Opened, ServerConfig};
use culvert_record::ChannelState;
use culvert_vocab::SecretBytes;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn deliver(from: &mut Connection, to: &mut Connection, now: Instant) {
    while let Some(mut datagram) = from.poll_transmit() {
        let mut rest = &mut datagram[..];
        while !rest.is_empty() {
            let Opened::Nothing { consumed } = to.open_record(now, rest) else { panic!("data") };
            rest = &mut rest[consumed..];
        }
    }
}

#[test]
fn steady_state_allocates_nothing() {
    for suite in CipherSuite::ALL {
        let now = Instant::now();
        let psk = SecretBytes::new(vec![1; 32]);
        let config = ClientConfig { suites: vec![suite], ..ClientConfig::new(psk.clone(), Vec::new()) };
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
        let before = ALLOCATIONS.get();
        (0..100).for_each(|_| one_packet());
        assert_eq!(ALLOCATIONS.get() - before, 0, "{suite:?}");
    }
}
