//! A SOCKS proxy that knows its users by their tickets (RFC 1961), because Debian has none: the real
//! client shows that it speaks as it should.
//!
//! usage: `socks_gssapi KEYTAB ADDRESS:PORT`; users are printed.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use culvert_gssapi::{Acceptor, Credentials};

const VERSION: u8 = 5;
const METHOD_TICKET: u8 = 1;
const METHOD_REFUSED: u8 = 0xff;
const CONNECT: u8 = 1;
const NAME: u8 = 3;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, keytab, address] = arguments.as_slice() else {
        return Err(io::Error::other("usage: socks_gssapi KEYTAB ADDRESS:PORT"));
    };
    let credentials = Credentials::load(Some(Path::new(keytab))).map_err(io::Error::other)?;
    let credentials = Mutex::new(credentials);
    for client in TcpListener::bind(address)?.incoming() {
        let client = client?;
        let Ok(credentials) = credentials.lock() else {
            break;
        };
        match greet(&client, &credentials) {
            Ok(server) => {
                thread::spawn(move || splice(&client, &server));
            }
            Err(error) => println!("refused: {error}"),
        }
    }
    Ok(())
}

/// Lets a client in, and connects to where it wants to go.
fn greet(mut client: &TcpStream, credentials: &Credentials) -> io::Result<TcpStream> {
    let [VERSION, count] = read(client)? else {
        return Err(io::Error::other("no SOCKS"));
    };
    let methods = read_vec(client, count.into())?;
    if !methods.contains(&METHOD_TICKET) {
        client.write_all(&[VERSION, METHOD_REFUSED])?;
        return Err(io::Error::other("no ticket"));
    }
    client.write_all(&[VERSION, METHOD_TICKET])?;
    let mut acceptor = Acceptor::new(credentials, None);
    while acceptor.accepted().is_none() {
        let step = acceptor.step(&message(client, 1)?).map_err(|error| {
            let _client_may_be_gone = client.write_all(&[1, 0xff]);
            io::Error::other(error)
        })?;
        say(client, 1, &step.token)?;
    }
    let user = acceptor.accepted().ok_or(io::ErrorKind::Other)?;
    let level = user.unwrap(&message(client, 2)?).map_err(io::Error::other)?;
    println!(
        "{} wants {:?}",
        user.principal().map_err(io::Error::other)?,
        level.as_slice()
    );
    say(client, 2, &user.wrap(&[0]).map_err(io::Error::other)?)?;

    let [VERSION, CONNECT, 0, NAME, length] = read(client)? else {
        return Err(io::Error::other("a request of another kind"));
    };
    let name = String::from_utf8_lossy(&read_vec(client, length.into())?).into_owned();
    let server = TcpStream::connect((name.as_str(), u16::from_be_bytes(read(client)?)))?;
    client.write_all(&[VERSION, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    Ok(server)
}

fn message(client: &TcpStream, wanted: u8) -> io::Result<Vec<u8>> {
    let [version, kind, high, low] = read(client)?;
    if (version, kind) != (1, wanted) {
        return Err(io::Error::other("a message of another kind"));
    }
    read_vec(client, u16::from_be_bytes([high, low]).into())
}

fn say(mut client: &TcpStream, kind: u8, content: &[u8]) -> io::Result<()> {
    let length = u16::try_from(content.len()).map_err(io::Error::other)?;
    client.write_all(&[&[1, kind][..], &length.to_be_bytes(), content].concat())
}

fn read<const N: usize>(mut client: &TcpStream) -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    client.read_exact(&mut octets)?;
    Ok(octets)
}

fn read_vec(mut client: &TcpStream, length: usize) -> io::Result<Vec<u8>> {
    let mut octets = vec![0; length];
    client.read_exact(&mut octets)?;
    Ok(octets)
}

/// Carries octets both ways until both have ended.
fn splice(client: &TcpStream, server: &TcpStream) {
    thread::scope(|scope| {
        for (mut from, mut to) in [(client, server), (server, client)] {
            scope.spawn(move || {
                let _ended = io::copy(&mut from, &mut to);
                let _ended = to.shutdown(Shutdown::Write);
            });
        }
    });
}
