//! A TLS connection on which a test says what no client would say.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};

use crate::fixture::{Fixture, SERVER_NAME};
use crate::net::{SERVER_V4, World};
use crate::wait;

/// `openssl s_client` from the client host to the server.
#[derive(Debug)]
pub struct Raw {
    child: Child,
    stdin: ChildStdin,
    out: PathBuf,
    name: String,
}

impl Raw {
    /// Connects; what the server says is kept in a file called `name`.
    ///
    /// # Panics
    /// openssl is not installed.
    pub fn connect(world: &World, fixture: &Fixture, name: &str) -> Self {
        Self::connect_with(world, fixture, name, &[])
    }

    /// The same with further arguments of `openssl s_client`.
    ///
    /// # Panics
    /// openssl is not installed.
    pub fn connect_with(world: &World, fixture: &Fixture, name: &str, arguments: &[&str]) -> Self {
        let out = fixture.path(&format!("{}.raw", name.replace('/', "-")));
        let mut command = world.client.command("openssl");
        command
            .args(["s_client", "-quiet", "-verify_quiet", "-connect"])
            .arg(format!("{SERVER_V4}:443"))
            .args(["-servername", SERVER_NAME, "-CAfile"])
            .arg(fixture.path("ca.pem"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(File::create(&out).unwrap())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("openssl is needed: see scripts/setup");
        let stdin = child.stdin.take().unwrap();
        Self {
            child,
            stdin,
            out,
            name: name.to_owned(),
        }
    }

    /// Sends octets: up to 8 kB are one TLS record.
    pub fn send(&mut self, octets: &[u8]) {
        // The server may have closed already; what it said before is what counts.
        let _closed = self.stdin.write_all(octets);
    }

    /// Sends a form.
    pub fn post(&mut self, path: &str, form: &str) {
        let length = form.len();
        let head = format!("POST /{path} HTTP/1.1\r\nHost: vpn\r\nContent-Length: {length}\r\n\r\n");
        self.send((head + form).as_bytes());
    }

    /// The port that it comes from.
    ///
    /// # Panics
    /// It is not connected.
    pub fn local_port(&self, world: &World) -> u16 {
        let text = world.client.run("ss", &["-tnpH", "state", "established"]);
        let process = format!("pid={},", self.child.id());
        let line = text.lines().find(|line| line.contains(&process));
        let local = line.and_then(|line| line.split_whitespace().nth(2));
        let port = local.and_then(|local| local.rsplit(':').next()?.parse().ok());
        port.unwrap_or_else(|| panic!("{} has no connection: {text}", self.name))
    }

    /// What the server has said so far.
    pub fn answer(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.out).unwrap()).into_owned()
    }

    /// Waits until the server has said `text` that many times.
    ///
    /// # Panics
    /// It does not.
    pub fn wait_for(&mut self, text: &str, times: usize) {
        self.wait_until(text, |answer| answer.matches(text).count() >= times);
    }

    /// Waits until the answer so far satisfies a condition.
    ///
    /// # Panics
    /// It does not; the message says what was waited for.
    pub fn wait_until(&mut self, what: &str, condition: impl Fn(&str) -> bool) {
        let said = wait::poll_within(wait::PATIENCE, || condition(&self.answer()).then_some(()));
        assert!(said.is_some(), "{}: no {what}: {:?}", self.name, self.answer());
    }

    /// Waits until the server has closed the connection and gives everything that it said.
    ///
    /// # Panics
    /// It does not close.
    pub fn closed(mut self) -> String {
        let child = &mut self.child;
        let end = wait::poll_within(wait::PATIENCE, || child.try_wait().unwrap());
        assert!(
            end.is_some(),
            "{}: the server does not close; it has said: {}",
            self.name,
            self.answer()
        );
        self.answer()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}
