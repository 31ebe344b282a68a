//! Packets as proof: pings and transfers through the tunnel.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::net::Host;
use crate::process::Process;
use crate::wait;

/// Octets of a [`transfer`].
pub const TRANSFER_SIZE: u64 = 50_000_000;

/// How long nothing arrives when nothing is on its way any more.
const SILENCE: Duration = Duration::from_secs(5);

/// Pings until one answer arrives.
///
/// # Panics
/// None arrives in time.
pub fn ping(from: &Host, to: IpAddr) {
    ping_within(wait::PATIENCE, from, to);
}

/// [`ping`] with another limit.
///
/// # Panics
/// See there.
pub fn ping_within(limit: Duration, from: &Host, to: IpAddr) {
    wait::until_within(limit, &format!("an answer from {to} to {}", from.name()), || {
        answers(from, to).then_some(())
    });
}

/// True when one ping is answered within a second.
pub fn answers(from: &Host, to: IpAddr) -> bool {
    let mut command = from.command("ping");
    command.args(["-n", "-c", "1", "-W", "1"]).arg(to.to_string());
    command.output().is_ok_and(|output| output.status.success())
}

/// The IPv4 pings between two hosts from now on, as their kernels count them: `ping` itself gives up on its
/// last ones soon.
#[derive(Debug)]
pub struct Echoes<'h> {
    from: &'h Host,
    to: &'h Host,
    before: [u64; 4],
}

impl<'h> Echoes<'h> {
    /// Begins to count what `from` asks `to`. Neither may ping anybody else meanwhile.
    pub fn of(from: &'h Host, to: &'h Host) -> Self {
        let before = Self::totals(from, to);
        Self { from, to, before }
    }

    /// Requests sent and arrived, answers sent and arrived.
    fn totals(from: &Host, to: &Host) -> [u64; 4] {
        [
            icmp_counter(from, "OutEchos"),
            icmp_counter(to, "InEchos"),
            icmp_counter(to, "OutEchoReps"),
            icmp_counter(from, "InEchoReps"),
        ]
    }

    fn counts(&self) -> [u64; 4] {
        let mut counts = Self::totals(self.from, self.to);
        for (count, before) in counts.iter_mut().zip(self.before) {
            *count -= before;
        }
        counts
    }

    /// Waits until all `count` requests and their answers have arrived, however late, each once.
    ///
    /// # Panics
    /// One was lost or came twice, or there were more or less.
    pub fn all_arrive_once(&self, count: u64) {
        let arrived = wait::poll_within(wait::PATIENCE, || (self.counts() == [count; 4]).then_some(()));
        assert!(arrived.is_some(), "{:?} instead of {count}", self.counts());
    }

    /// How many requests or answers were lost of as many requests as there were; one at least. What has not
    /// arrived is lost when nothing has arrived for a while.
    ///
    /// # Panics
    /// Nothing was sent.
    pub fn lost(&self) -> u64 {
        let sent = self.sent();
        let (mut last, mut since) = (self.counts(), Instant::now());
        let settled = || {
            let counts = self.counts();
            if counts != last {
                (last, since) = (counts, Instant::now());
            }
            (counts == [sent; 4] || since.elapsed() > SILENCE).then_some(counts)
        };
        let counts = wait::until("the last answer", settled);
        sent.saturating_sub(counts[3])
    }

    /// [`Self::all_arrive_once`] for as many requests as there were; one at least.
    ///
    /// # Panics
    /// See there.
    pub fn none_is_lost(&self) {
        self.all_arrive_once(self.sent());
    }

    fn sent(&self) -> u64 {
        let [sent, ..] = self.counts();
        assert!(sent > 0, "nobody has pinged");
        sent
    }

    /// Checks that nothing has arrived that was not sent. Requests may have been lost.
    ///
    /// # Panics
    /// Something has come twice.
    pub fn none_came_twice(&self) {
        let [requests, arrived, answers, returned] = self.counts();
        assert!(
            arrived <= requests && returned <= answers,
            "{arrived} of {requests} requests, {returned} of {answers} answers"
        );
    }
}

fn icmp_counter(host: &Host, name: &str) -> u64 {
    let text = host.run("cat", &["/proc/net/snmp"]);
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs.find(|(known, _)| *known == name).unwrap();
    value.parse().unwrap()
}

/// Sends [`TRANSFER_SIZE`] octets over TCP from one host to another and compares their hashes.
/// `program` is the laboratory's `transfer`, which gives up when nothing moves for a minute: how long it
/// all takes depends on the machine.
///
/// # Panics
/// The octets do not arrive, or not as they were sent.
pub fn transfer(program: &Path, dir: &Path, from: &Host, to: &Host, address: IpAddr) {
    transfer_of(TRANSFER_SIZE, program, dir, from, to, address);
}

/// [`transfer`] of so many octets.
///
/// # Panics
/// See there.
pub fn transfer_of(size: u64, program: &Path, dir: &Path, from: &Host, to: &Host, address: IpAddr) {
    let size = size.to_string();
    let mut receive = to.command(program);
    receive.arg("receive").arg(address.to_string());
    let mut receiver = Process::start(receive, dir, "receiver", None);
    receiver.wait_for("port ");
    let text = receiver.stdout();
    let port = text
        .lines()
        .find_map(|line| line.strip_prefix("port "))
        .expect("a port")
        .to_owned();

    let mut send = from.command(program);
    send.args(["send", &address.to_string(), &port, &size]);
    let mut sender = Process::start(send, dir, "sender", None);
    assert_eq!(sender.exit_code_soon(), 0, "{}", sender.output());
    assert_eq!(receiver.exit_code_soon(), 0, "{}", receiver.output());
    let digest = |process: &Process| {
        let text = process.stdout();
        text.lines().find_map(|line| {
            line.strip_prefix("sent ")
                .or(line.strip_prefix("received "))
                .map(str::to_owned)
        })
    };
    assert_eq!(
        digest(&sender),
        digest(&receiver),
        "{}{}",
        sender.output(),
        receiver.output()
    );
    assert!(digest(&sender).is_some_and(|digest| digest.starts_with(&size)));
}
