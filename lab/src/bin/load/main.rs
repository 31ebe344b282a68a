//! A load of clients in one process: our TLS, CONNECT, DTLS and packet path without TUN devices.
//! Thousands of sessions log in from many addresses, then each pings through its tunnel.
//!
//! ```text
//! load --server 192.0.2.1:443 [--clients 2000] [--tls] [--size 100] [--rate 2000] [--seconds 10]
//!      [--source 198.18.0.1 --sources 250] [--threads 4] [--server-pid PID] [--hold]
//!      [--junk 100000 --junk-kind random|hello|record]
//! ```
//!
//! Prints one fact per line. `--server-pid` adds the memory of the server's processes before the
//! logins, at half of them and after all; `--hold` keeps the sessions until standard input ends.
//! `--clients 0` with `--junk` is a flood alone, of `--seconds`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the laboratory stops at the first surprise"
)]

mod carry;
mod junk;
mod login;
mod memory;

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use culvert_sys::process::{Resource, raise_limit};

use self::carry::Carrier;
use self::junk::{Junk, JunkKind};
use self::login::Logins;
use self::memory::Memory;

/// Longest time for the logins.
const PATIENCE: Duration = Duration::from_secs(300);
/// Longest time for DTLS handshakes after the logins.
const HANDSHAKES: Duration = Duration::from_secs(30);
/// Descriptors per client: TLS, UDP, both ends of its device.
const DESCRIPTORS: u64 = 4;

/// What to do.
#[derive(Debug, Clone)]
struct Options {
    server: SocketAddr,
    clients: usize,
    tls_only: bool,
    /// Octets of an inner packet.
    size: usize,
    /// Packets per second of all clients together.
    rate: u64,
    seconds: u64,
    /// First address of the clients, and how many follow it.
    source: Option<Ipv4Addr>,
    sources: u32,
    threads: usize,
    server_pid: Option<u32>,
    hold: bool,
    /// Datagrams of strangers per second.
    junk: u64,
    junk_kind: JunkKind,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("load: {why}");
            return ExitCode::FAILURE;
        }
    };
    let wanted = options.clients as u64 * DESCRIPTORS + 256;
    match raise_limit(Resource::Descriptors, wanted) {
        Ok(allowed) if allowed >= wanted => {}
        Ok(allowed) => {
            eprintln!(
                "load: {} clients need {wanted} descriptors, {allowed} are allowed (prlimit --nofile)",
                options.clients
            );
            return ExitCode::FAILURE;
        }
        Err(error) => {
            eprintln!("load: cannot raise the limit of descriptors: {error}");
            return ExitCode::FAILURE;
        }
    }
    run(&options)
}

fn run(options: &Options) -> ExitCode {
    if options.clients == 0 {
        let junk = Junk::start(options);
        println!("flooding");
        std::thread::sleep(Duration::from_secs(options.seconds));
        println!("junk {} per second", junk.stop());
        return ExitCode::SUCCESS;
    }
    let memory = || options.server_pid.map(Memory::of);
    let empty = memory();
    let mut carrier = Carrier::new(options);
    let half = options.clients / 2;
    let mut seconds = log_in(&mut carrier, options, 0..half);
    let half = (carrier.len(), memory());
    seconds += log_in(&mut carrier, options, options.clients / 2..options.clients);
    println!(
        "logins {} of {} in {seconds:.1} s: {:.1} per second",
        carrier.len(),
        options.clients,
        carrier.len() as f64 / seconds
    );
    if carrier.len() == 0 {
        return ExitCode::FAILURE;
    }
    if !options.tls_only {
        println!("dtls {} of {}", carrier.datagrams(), carrier.len());
    }
    if let (Some(empty), (count, Some(half)), Some(full)) = (empty, half, memory()) {
        println!("memory empty: {empty}");
        println!("memory half ({count} clients): {half}");
        println!("memory full ({} clients): {full}", carrier.len());
        full.print_slope(&half, carrier.len().saturating_sub(count));
    }
    carrier.echo(options, "echo");
    if options.junk > 0 {
        let junk = Junk::start(options);
        carrier.echo(options, "echo under junk");
        println!("junk {} per second", junk.stop());
        if let Some(memory) = memory() {
            println!("memory under junk: {memory}");
        }
    }
    if options.hold {
        println!("holding");
        let input = std::thread::spawn(|| std::io::stdin().read(&mut [0]));
        while !input.is_finished() {
            carrier.turn(Duration::from_millis(20));
        }
    }
    println!("ended by the server: {}", carrier.ended());
    ExitCode::SUCCESS
}

/// Logs clients in and waits until they are idle; gives the seconds that the logins took.
fn log_in(carrier: &mut Carrier, options: &Options, numbers: Range<usize>) -> f64 {
    let begin = Instant::now();
    let logins = Logins::start(options, numbers.clone());
    let (before, mut failures) = (carrier.len(), 0);
    while carrier.len() - before + failures < numbers.len() && begin.elapsed() < PATIENCE {
        carrier.turn(Duration::from_millis(5));
        while let Some(result) = logins.poll() {
            match result {
                Ok(tunnel) => carrier.add(tunnel),
                Err(why) => {
                    failures += 1;
                    if failures <= 3 {
                        eprintln!("load: login failed: {why}");
                    }
                }
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    while !options.tls_only && carrier.datagrams() < carrier.len() && begin.elapsed() < HANDSHAKES {
        carrier.turn(Duration::from_millis(5));
    }
    // So that what is measured then is not the logins.
    carrier.idle(Duration::from_secs(2));
    seconds
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        server: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 443),
        clients: 2000,
        tls_only: false,
        size: 100,
        rate: 2000,
        seconds: 10,
        source: None,
        sources: 1,
        threads: 4,
        server_pid: None,
        hold: false,
        junk: 0,
        junk_kind: JunkKind::Random,
    };
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--tls" => options.tls_only = true,
            "--hold" => options.hold = true,
            _ => {
                let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
                set(&mut options, &name, &value)?;
            }
        }
    }
    Ok(options)
}

fn set(options: &mut Options, name: &str, value: &str) -> Result<(), String> {
    fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
        value
            .parse()
            .map_err(|_| format!("'{value}' is no value for {name}"))
    }
    match name {
        "--server" => options.server = number(name, value)?,
        "--clients" => options.clients = number(name, value)?,
        "--size" => options.size = number::<usize>(name, value)?.clamp(carry::SMALLEST, 1400),
        "--rate" => options.rate = number(name, value)?,
        "--seconds" => options.seconds = number(name, value)?,
        "--source" => options.source = Some(number(name, value)?),
        "--sources" => options.sources = number::<u32>(name, value)?.max(1),
        "--threads" => options.threads = number::<usize>(name, value)?.max(1),
        "--server-pid" => options.server_pid = Some(number(name, value)?),
        "--junk" => options.junk = number(name, value)?,
        "--junk-kind" => options.junk_kind = JunkKind::parse(value)?,
        _ => return Err(format!("unknown option {name}")),
    }
    Ok(())
}

impl Options {
    /// Address and any port for the `number`-th socket.
    fn source_of(&self, number: usize) -> Option<SocketAddr> {
        let first = u32::from(self.source?);
        let address = first.wrapping_add(number as u32 % self.sources);
        Some(SocketAddr::new(Ipv4Addr::from(address).into(), 0))
    }
}
