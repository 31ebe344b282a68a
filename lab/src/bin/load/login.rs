//! Logins: TLS, the form, CONNECT. Threads of their own do them, one at a time each.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use culvert_anyconnect::client::{ConnectOptions, DtlsOffer, DtlsRequest, Platform, parse_connect_response};
use culvert_anyconnect::dtls::{MASTER_SECRET_LEN, OfferedCiphers, PSK_NEGOTIATE};
use culvert_anyconnect::mtu::RequestedMtu;
use culvert_anyconnect::psk::{PSK_EXPORTER_LABEL, PSK_LEN};
use culvert_certs::{Anchors, Host, Policy, PolicySettings};
use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::{PASSWORD, USER};
use culvert_tls::{Algorithms, ClientSettings, Handshake, Records};
use culvert_vocab::{SecretBytes, TunnelConfig};
use culvert_wire::http::{Request, Response, ResponseReader};
use culvert_wire::url::ServerUrl;
use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, Socket, Type};

use crate::Options;

/// Longest time for one read.
const READ_TIME: Duration = Duration::from_secs(60);
const AGENT: &str = "Open AnyConnect VPN Agent v9.12";

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// A tunnel that is ready for packets.
pub(crate) struct Tunnel {
    /// Number of the client.
    pub(crate) number: usize,
    /// The connection.
    pub(crate) socket: OwnedFd,
    /// Its records.
    pub(crate) records: Records,
    /// What the server grants.
    pub(crate) config: TunnelConfig,
    /// The UDP channel, with the key of its handshake.
    pub(crate) dtls: Option<(DtlsOffer, SecretBytes)>,
}

/// Logins in progress.
pub(crate) struct Logins {
    results: Receiver<Result<Tunnel, Problem>>,
}

impl Logins {
    /// Begins to log clients in.
    pub(crate) fn start(options: &Options, numbers: Range<usize>) -> Self {
        let (sender, results) = channel();
        let next = Arc::new(AtomicUsize::new(numbers.start));
        for _ in 0..options.threads {
            let (options, sender, next) = (options.clone(), sender.clone(), Arc::clone(&next));
            std::thread::spawn(move || {
                let settings = settings();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end || sender.send(log_in(&options, &settings, number)).is_err() {
                        return;
                    }
                }
            });
        }
        Self { results }
    }

    /// The next result that is there.
    pub(crate) fn poll(&self) -> Option<Result<Tunnel, Problem>> {
        self.results.try_recv().ok()
    }
}

/// Whoever the server is: certificates are not the subject here.
fn settings() -> ClientSettings {
    let policy = Policy::new(PolicySettings {
        host: Host::new(SERVER_NAME),
        host_is_sni: false,
        anchors: Arc::new(Anchors::new()),
        allow_insecure_crypto: false,
        decide: Arc::new(|_| true),
    });
    ClientSettings {
        verifier: Arc::new(policy),
        identity: None,
        algorithms: Algorithms::default(),
    }
}

fn log_in(options: &Options, settings: &ClientSettings, number: usize) -> Result<Tunnel, Problem> {
    let mut stream = Stream {
        tcp: dial(options, number)?,
        tls: Handshake::client(settings, ServerName::try_from(SERVER_NAME)?)?,
    };
    while stream.tls.is_handshaking() {
        stream.flush()?;
        if stream.tls.is_handshaking() {
            stream.feed()?;
        }
    }
    let mut form = Request::new("POST", "/auth");
    form.headers.push("Host", SERVER_NAME);
    form.headers.push("User-Agent", AGENT);
    form.headers
        .push("Content-Type", "application/x-www-form-urlencoded");
    form.body = format!("username={USER}&password={}", PASSWORD.replace(' ', "+")).into_bytes();
    form.headers.push("Content-Length", form.body.len().to_string());
    let response = stream.exchange(&form)?.0;
    let cookie = response
        .headers
        .get_all("Set-Cookie")
        .find_map(|cookie| Some(cookie.strip_prefix("webvpn=")?.split(';').next()?.to_owned()))
        .filter(|cookie| !cookie.is_empty())
        .ok_or_else(|| format!("no cookie: {}", response.status_line()))?;
    let connect = ConnectOptions {
        server: ServerUrl::parse(&format!("https://{SERVER_NAME}/"))?,
        user_agent: AGENT.to_owned(),
        version: "v9.12".to_owned(),
        cookie: cookie.into(),
        hostname: format!("load{number}"),
        strap: None,
        platform: Platform::new("linux-64").ok_or("no such platform")?,
        stream_encodings: Vec::new(),
        mtu: RequestedMtu {
            base: 1500,
            mtu: 1406,
        },
        ipv6: false,
        previous_ipv4: None,
        previous_ipv6: None,
        dtls: (!options.tls_only).then(|| DtlsRequest {
            master_secret: SecretBytes::new(vec![7; MASTER_SECRET_LEN]),
            ciphers: OfferedCiphers {
                dtls: Some(PSK_NEGOTIATE.into()),
                dtls12: None,
            },
            encodings: Vec::new(),
        }),
    };
    let (response, rest) = stream.exchange(&connect.to_request())?;
    let connected = parse_connect_response(&response)?;
    let dtls = match connected.dtls {
        Ok(offer) => {
            let mut psk = vec![0; PSK_LEN];
            stream.tls.exporter(PSK_EXPORTER_LABEL, &mut psk)?;
            Some((offer, SecretBytes::new(psk)))
        }
        Err(_) => None,
    };
    if !rest.is_empty() {
        return Err("frames before the records were taken over".into());
    }
    stream.flush()?;
    stream.tcp.set_read_timeout(None)?;
    Ok(Tunnel {
        number,
        records: stream.tls.into_records()?,
        socket: stream.tcp.into(),
        config: connected.config,
        dtls,
    })
}

fn dial(options: &Options, number: usize) -> std::io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(options.server),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if let Some(source) = options.source_of(number) {
        socket.bind(&source.into())?;
    }
    socket.connect(&options.server.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(READ_TIME))?;
    Ok(stream)
}

struct Stream {
    tcp: TcpStream,
    tls: Handshake,
}

impl Stream {
    fn flush(&mut self) -> std::io::Result<()> {
        while let Some(bytes) = self.tls.poll_transmit() {
            self.tcp.write_all(&bytes)?;
        }
        Ok(())
    }

    /// Reads what comes next.
    fn feed(&mut self) -> Result<(), Problem> {
        let mut buffer = [0; 16384];
        let count = self.tcp.read(&mut buffer)?;
        if count == 0 {
            return Err("the server has closed the connection".into());
        }
        let mut bytes = &buffer[..count];
        while !bytes.is_empty() {
            match self.tls.handle_input(bytes)? {
                0 => return Err("too much data".into()),
                taken => bytes = &bytes[taken..],
            }
        }
        Ok(())
    }

    /// One request and its response, with the octets behind it.
    fn exchange(&mut self, request: &Request) -> Result<(Response, Vec<u8>), Problem> {
        self.tls.write_plaintext(&request.to_bytes())?;
        self.flush()?;
        let mut reader = ResponseReader::new(&request.method);
        loop {
            while let Some(plaintext) = self.tls.poll_plaintext()? {
                if let Some(response) = reader.handle_input(&plaintext)? {
                    return Ok((response, reader.take_rest()));
                }
            }
            self.feed()?;
        }
    }
}
