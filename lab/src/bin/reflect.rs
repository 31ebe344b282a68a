//! A program for `openconnect --script-tun`: answers pings of IPv4. Standard input is the socket
//! of `VPNFD`, one packet per datagram.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

const ICMP: u8 = 1;
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

fn main() -> io::Result<()> {
    let mut socket = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut packet = [0; 65536];
    loop {
        let length = socket.read(&mut packet)?;
        if length == 0 {
            return Ok(());
        }
        if let Some(packet) = packet.get_mut(..length)
            && turn_around(packet)
        {
            socket.write_all(packet)?;
        }
    }
}

/// Makes the answer to a ping; false when the packet is none.
fn turn_around(packet: &mut [u8]) -> bool {
    let Some(header) = packet
        .first()
        .filter(|first| **first >> 4 == 4)
        .map(|first| usize::from(first & 15) * 4)
    else {
        return false;
    };
    if packet.len() < header + 8 || header < 20 || packet[9] != ICMP || packet[header] != ECHO_REQUEST {
        return false;
    }
    let (source, destination) = packet[12..20].split_at_mut(4);
    source.swap_with_slice(destination);
    packet[header] = ECHO_REPLY;
    // The sum over the message is smaller by the type, so its complement grows.
    let checksum = u16::from_be_bytes([packet[header + 2], packet[header + 3]]);
    let (sum, carry) = checksum.overflowing_add(u16::from(ECHO_REQUEST) << 8);
    let checksum = sum + u16::from(carry);
    packet[header + 2..header + 4].copy_from_slice(&checksum.to_be_bytes());
    true
}
