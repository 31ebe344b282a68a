use std::io;

use super::*;
use crate::epoll::{Events, Interest, Poller};

fn pair(local: &str) -> (UdpSocket, UdpSocket) {
    let first = UdpSocket::bind(local.parse().unwrap()).unwrap();
    let second = UdpSocket::connected(Some(local.parse().unwrap()), first.local_addr().unwrap()).unwrap();
    first.connect(second.local_addr().unwrap()).unwrap();
    (first, second)
}

fn wait(socket: &UdpSocket) {
    let poller = Poller::new().unwrap();
    poller.add(socket, 0, Interest::READ).unwrap();
    poller.wait(&mut Events::with_capacity(1), None).unwrap();
}

#[test]
fn segments_are_sent_and_received_in_one_call() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let (near, far) = pair(local);
        far.set_gro(true).unwrap();
        let data: Vec<u8> = (0..10_500u32).map(|i| i as u8).collect();
        near.send(&data, 1000, Some(0x48)).unwrap();
        let (mut received, mut buffer) = (Vec::new(), vec![0; 65536]);
        while received.len() < data.len() {
            wait(&far);
            let got = far.receive(&mut buffer).unwrap();
            assert!(got.segment == 1000 || got.segment == got.len, "{got:?}");
            received.extend_from_slice(&buffer[..got.len]);
        }
        assert_eq!(received, data);
        assert_eq!(
            far.receive(&mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }
}

/// The sizes of segments change, smaller datagrams and larger ones come between.
#[test]
fn segments_are_sent_without_messages() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let (near, far) = pair(local);
        let near = near.without_messages();
        let mut buffer = vec![0; 65536];
        for (length, segment) in [
            (100, 100),
            (5000, 1000),
            (300, 300),
            (1400, 1400),
            (4200, 1400),
            (2999, 1000),
            (8, 8),
        ] {
            let data: Vec<u8> = (0..length).map(|i: u32| i as u8).collect();
            near.send(&data, segment, None).unwrap();
            for expected in data.chunks(segment) {
                wait(&far);
                let got = far.receive(&mut buffer).unwrap();
                assert_eq!(&buffer[..got.len], expected, "{length} by {segment}");
            }
        }
        // The path becomes narrower than the segments were.
        near.set_path_mtu_discovery(PathMtuDiscovery::On).unwrap();
        near.send(&[1; 60_000], 30_000, None).unwrap();
        assert!(matches!(
            near.send(&[1; 65_530], 65_530, None),
            Err(SendError::TooLarge)
        ));
    }
}

#[test]
fn a_listener_hands_a_peer_over_to_a_connected_socket() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let listener = UdpSocket::bind(local.parse().unwrap()).unwrap();
        listener.receive_local_address(true).unwrap();
        let address = listener.local_addr().unwrap();
        let client = UdpSocket::connected(None, address).unwrap();
        client.send(b"hello", 5, None).unwrap();
        wait(&listener);
        let mut buffer = [0; 64];
        let first = listener.receive_from(&mut buffer).unwrap();
        assert_eq!((first.len, first.peer), (5, client.local_addr().unwrap()));
        assert_eq!(first.local, Some(address.ip()));

        let connected = UdpSocket::connected(Some(address), first.peer).unwrap();
        client.send(b"again", 5, None).unwrap();
        wait(&connected);
        assert_eq!(connected.receive(&mut buffer).unwrap().len, 5);
        assert_eq!(
            listener.receive_from(&mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }
}

#[test]
fn errors_are_typed() {
    let (near, far) = pair("127.0.0.1:0");
    near.set_path_mtu_discovery(PathMtuDiscovery::On).unwrap();
    assert!(matches!(
        near.send(&[0; 65520], 65520, None),
        Err(SendError::TooLarge)
    ));
    assert!(near.path_mtu().unwrap() > 1280);
    drop(far);
    near.send(b"x", 1, None).unwrap();
    wait(&near);
    assert!(matches!(near.send(b"x", 1, None), Err(SendError::Refused)));
}
