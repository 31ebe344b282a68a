//! The header that a proxy puts before a connection, versions 1 and 2 (`specs/server-config.md` §16).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest line of version 1, in octets.
const LINE_MAX: usize = 108;
/// Start of a header of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Octets of version 2 before the addresses; less than any acceptable line of version 1.
const FIXED: usize = 16;
/// Most octets after them.
const REST_MAX: usize = 520;

/// How far a header is.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// This many octets more belong to it for certain.
    More(usize),
    /// Complete: who connected, and to which address; `None` when the proxy speaks for itself.
    Done(Option<(SocketAddr, SocketAddr)>),
}

/// Octets that are no acceptable header.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad PROXY header: {0}")]
pub struct HeaderError(&'static str);

/// Looks at the octets so far, of which none is beyond the header.
///
/// # Errors
/// See [`HeaderError`]; the connection is of no use.
pub fn parse(seen: &[u8]) -> Result<Progress, HeaderError> {
    if seen.len() < FIXED {
        return Ok(Progress::More(FIXED - seen.len()));
    }
    if seen.starts_with(SIGNATURE) {
        return parse_binary(seen);
    }
    if !seen.starts_with(b"PROXY ") {
        return Err(HeaderError("there is none"));
    }
    match seen {
        [line @ .., b'\r', b'\n'] => parse_line(line).map(|addresses| Progress::Done(Some(addresses))),
        [.., b'\n'] => Err(HeaderError("a line that ends without CR")),
        _ if seen.len() >= LINE_MAX => Err(HeaderError("a line that is too long")),
        _ => Ok(Progress::More(1)),
    }
}

fn parse_line(line: &[u8]) -> Result<(SocketAddr, SocketAddr), HeaderError> {
    let text = std::str::from_utf8(line).map_err(|_| HeaderError("a line that is no text"))?;
    let words: Vec<&str> = text.split(' ').collect();
    let [_, family, source, destination, source_port, destination_port] = words[..] else {
        return Err(HeaderError("a line without two addresses and ports"));
    };
    let address = |text: &str, port: &str| -> Option<SocketAddr> {
        let ip: IpAddr = match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok()?.into(),
            "TCP6" => text.parse::<Ipv6Addr>().ok()?.into(),
            _ => return None,
        };
        let digits = port.bytes().all(|octet| octet.is_ascii_digit());
        Some(SocketAddr::new(ip, port.parse().ok().filter(|_| digits)?))
    };
    address(source, source_port)
        .zip(address(destination, destination_port))
        .ok_or(HeaderError("a line with a bad address or port"))
}

fn parse_binary(seen: &[u8]) -> Result<Progress, HeaderError> {
    let Some((&[version_and_command, family, high, low], rest)) = seen
        .get(SIGNATURE.len()..)
        .and_then(|after| after.split_first_chunk())
    else {
        return Ok(Progress::More(1));
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > REST_MAX {
        return Err(HeaderError("too long"));
    }
    if rest.len() < length {
        return Ok(Progress::More(length - rest.len()));
    }
    // Of other versions only the length is known.
    let addresses = match (version_and_command >> 4, version_and_command & 15, family) {
        (2, 0, _) => None,
        (2, 1, 0x11) => Some(addresses::<4>(rest)?),
        (2, 1, 0x21) => Some(addresses::<16>(rest)?),
        (2, 1, _) => None,
        (2, ..) => return Err(HeaderError("an unknown command")),
        _ => None,
    };
    Ok(Progress::Done(addresses))
}

/// Two addresses of `N` octets and two ports.
fn addresses<const N: usize>(octets: &[u8]) -> Result<(SocketAddr, SocketAddr), HeaderError>
where
    IpAddr: From<[u8; N]>,
{
    let take = || {
        let (source, rest) = octets.split_first_chunk::<N>()?;
        let (destination, rest) = rest.split_first_chunk::<N>()?;
        let (source_port, rest) = rest.split_first_chunk()?;
        let destination_port = rest.first_chunk()?;
        let address = |ip: &[u8; N], port: &[u8; 2]| SocketAddr::new((*ip).into(), u16::from_be_bytes(*port));
        Some((
            address(source, source_port),
            address(destination, destination_port),
        ))
    };
    take().ok_or(HeaderError("shorter than its addresses"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds a header as a stream; gives what comes of it and how much of the stream was taken.
    fn read(stream: &[u8]) -> (Result<Option<(SocketAddr, SocketAddr)>, HeaderError>, usize) {
        let mut taken = 0;
        loop {
            match parse(&stream[..taken]) {
                Ok(Progress::More(more)) if taken + more <= stream.len() => taken += more,
                Ok(Progress::More(_)) => return (Err(HeaderError("incomplete")), taken),
                Ok(Progress::Done(addresses)) => return (Ok(addresses), taken),
                Err(error) => return (Err(error), taken),
            }
        }
    }

    fn binary(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([version_and_command, family]);
        header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        header.extend(rest);
        header
    }

    #[test]
    fn lines() {
        for (line, source, destination) in [
            (
                "PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n",
                "192.0.2.7:1234",
                "198.51.100.1:443",
            ),
            (
                "PROXY TCP6 2001:db8::7 ::1 65535 0\r\n",
                "[2001:db8::7]:65535",
                "[::1]:0",
            ),
        ] {
            let stream = format!("{line}\x16\x03\x01 and so on");
            let (addresses, taken) = read(stream.as_bytes());
            let expected = (source.parse().unwrap(), destination.parse().unwrap());
            assert_eq!((addresses, taken), (Ok(Some(expected)), line.len()));
        }
        let long = format!("PROXY TCP6 {} ::1 1 2\r\n", "0".repeat(200));
        for bad in [
            "PROXY UNKNOWN\r\nmore octets",
            "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\n",
            "PROXY TCP4 192.0.2.256 198.51.100.1 1234 443\r\n",
            "PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 70000 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n",
            "PROXY TCP4  192.0.2.7 198.51.100.1 1 443\r\n",
            "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03 a ClientHello",
            &long,
        ] {
            assert!(read(bad.as_bytes()).0.is_err(), "{bad}");
        }
    }

    #[test]
    fn binary_headers() {
        let four = [192, 0, 2, 7, 198, 51, 100, 1, 4, 210, 1, 187];
        let expected = (
            "192.0.2.7:1234".parse().unwrap(),
            "198.51.100.1:443".parse().unwrap(),
        );
        let mut stream = binary(0x21, 0x11, &four);
        let length = stream.len();
        stream.extend(b"the ClientHello");
        assert_eq!(read(&stream), (Ok(Some(expected)), length));

        // Further fields are skipped.
        let with_fields = binary(0x21, 0x11, &[&four[..], &[0x20, 0, 3, 1, 2, 3]].concat());
        assert_eq!(read(&with_fields), (Ok(Some(expected)), with_fields.len()));

        let mut six = [0; 36];
        (six[15], six[31], six[33], six[35]) = (1, 2, 3, 4);
        let expected = ("[::1]:3".parse().unwrap(), "[::2]:4".parse().unwrap());
        assert_eq!(read(&binary(0x21, 0x21, &six)).0, Ok(Some(expected)));

        // LOCAL, UNSPEC, UDP, another version: the addresses of the socket.
        for (version_and_command, family) in [(0x20, 0x11), (0x21, 0), (0x21, 0x12), (0x31, 0x11)] {
            let header = binary(version_and_command, family, &four);
            assert_eq!(read(&header), (Ok(None), header.len()));
        }
        for bad in [
            binary(0x22, 0x11, &four),
            binary(0x21, 0x11, &four[..11]),
            binary(0x21, 0x21, &four),
            binary(0x21, 0x11, &[0; REST_MAX + 1]),
        ] {
            assert!(read(&bad).0.is_err());
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_or_takes_too_much(
            start in prop::sample::select(vec![&b"PROXY TCP4 "[..], b"PROXY TCP6 ::1 ", SIGNATURE, b""]),
            stream in prop::collection::vec(any::<u8>(), 0..1000),
        ) {
            let (_, taken) = read(&[start, &stream].concat());
            prop_assert!(taken <= FIXED + REST_MAX);
        }
    }
}
