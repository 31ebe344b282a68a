//! Packets as proof: pings and transfers through the tunnel.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::net::Host;
use crate::process::Process;
use crate::wait;

/// Octets of a [`transfer`].
pub const TRANSFER_SIZE: u64 = 50_000_000;

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

/// Sends [`TRANSFER_SIZE`] octets over TCP from one host to another and compares their hashes.
/// `program` is the laboratory's `transfer`.
///
/// # Panics
/// The octets do not arrive, or not as they were sent.
pub fn transfer(program: &Path, dir: &Path, from: &Host, to: &Host, address: IpAddr) {
    let size = TRANSFER_SIZE.to_string();
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
    assert_eq!(sender.exit_code(), 0, "{}", sender.output());
    assert_eq!(receiver.exit_code(), 0, "{}", receiver.output());
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
