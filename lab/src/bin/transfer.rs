//! Sends or receives octets over TCP and prints how many and their SHA-256.
//!
//! `transfer receive ADDRESS` listens on a free port, prints `port N`, takes one connection;
//! `transfer send ADDRESS PORT COUNT` sends COUNT pseudo-random octets.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// Longest silence on the connection.
const SILENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["receive", address] => receive(address.parse()?),
        ["send", address, port, count] => send(address.parse()?, port.parse()?, count.parse()?),
        _ => Err("usage: transfer receive ADDRESS | transfer send ADDRESS PORT COUNT".into()),
    }
}

fn receive(address: IpAddr) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((address, 0))?;
    println!("port {}", listener.local_addr()?.port());
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(SILENCE))?;
    let mut hash = Sha256::new();
    let mut total = 0u64;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        total += count as u64;
    }
    println!("received {total} {}", hex(&hash.finalize()));
    Ok(())
}

fn send(address: IpAddr, port: u16, count: u64) -> Result<(), Box<dyn Error>> {
    let mut stream = TcpStream::connect_timeout(&(address, port).into(), SILENCE)?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut hash = Sha256::new();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut buffer = vec![0; 1 << 16];
    let mut left = count;
    while left > 0 {
        for chunk in buffer.chunks_exact_mut(8) {
            // xorshift64: cheap octets that do not compress
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        let size = left.min(buffer.len() as u64) as usize;
        hash.update(&buffer[..size]);
        stream.write_all(&buffer[..size])?;
        left -= size as u64;
    }
    println!("sent {count} {}", hex(&hash.finalize()));
    Ok(())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
