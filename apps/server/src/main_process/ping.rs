//! `ping-leases`: whether somebody has an address already (`specs/server-config.md` §11).

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use culvert_sys::tcp;
use socket2::{Domain, Protocol, Socket, Type};

use crate::ipc::pollable;

/// How long an answer may take. Every login with a free address waits that long.
const PATIENCE: Duration = Duration::from_secs(1);
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// Octets of an echo request: type, code, checksum, identifier, sequence number.
const REQUEST_LEN: usize = 8;

/// Pings `address` once; true when it answers. `identifier` tells concurrent pings apart.
///
/// # Errors
/// No raw socket, or it cannot be used.
pub(super) async fn answers(address: Ipv4Addr, identifier: u16) -> io::Result<bool> {
    let socket = Socket::new(
        Domain::IPV4,
        Type::RAW.nonblocking().cloexec(),
        Some(Protocol::ICMPV4),
    )?;
    match socket
        .connect(&SocketAddrV4::new(address, 0).into())
        .and_then(|()| socket.send(&request(identifier)))
    {
        Ok(_) => {}
        // There is no way to anybody with this address.
        Err(error) if is_unreachable(&error) => return Ok(false),
        Err(error) => return Err(error),
    }
    let socket = pollable(socket)?;
    let answer = async {
        loop {
            let mut ready = socket.readable().await?;
            let mut packet = [0; 128];
            match ready.try_io(|socket| tcp::receive(socket, &mut packet)) {
                Ok(Ok(length)) if is_reply(packet.get(..length).unwrap_or_default(), identifier) => {
                    return Ok(true);
                }
                Ok(Ok(_another_packet)) => {}
                Ok(Err(error)) if is_unreachable(&error) => return Ok(false),
                Ok(Err(error)) => return Err(error),
                Err(_not_ready) => {}
            }
        }
    };
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answered) => answered,
        Err(_nobody) => Ok(false),
    }
}

fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
    )
}

fn request(identifier: u16) -> [u8; REQUEST_LEN] {
    let [high, low] = identifier.to_be_bytes();
    let mut request = [ECHO_REQUEST, 0, 0, 0, high, low, 0, 1];
    // The sum of the three words that are not zero, folded (RFC 1071).
    let sum = (u32::from(ECHO_REQUEST) << 8) + u32::from(identifier) + 1;
    let folded = (sum & 0xffff) + (sum >> 16);
    let [high, low] = (!(folded as u16)).to_be_bytes();
    (request[2], request[3]) = (high, low);
    request
}

/// Whether an IPv4 packet is the answer to [`request`].
fn is_reply(packet: &[u8], identifier: u16) -> bool {
    let header = packet.first().map_or(0, |first| usize::from(first & 15) * 4);
    match packet.get(header..) {
        Some([ECHO_REPLY, 0, _, _, high, low, ..]) => u16::from_be_bytes([*high, *low]) == identifier,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_a_checksum() {
        for identifier in [0, 1, 0x1234, 0xffff] {
            let words = request(identifier);
            let sum: u32 = words
                .chunks(2)
                .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
                .sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{identifier}");
        }
    }

    #[test]
    fn only_the_answer_counts() {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet.extend([ECHO_REPLY, 0, 0, 0, 0x12, 0x34, 0, 1]);
        assert!(is_reply(&packet, 0x1234));
        assert!(!is_reply(&packet, 0x1235) && !is_reply(&packet[..24], 0x1234) && !is_reply(&[], 0));
        packet[20] = ECHO_REQUEST;
        assert!(!is_reply(&packet, 0x1234));
    }
}
