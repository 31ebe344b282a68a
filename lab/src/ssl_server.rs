//! `openssl s_server` on the server's host, as a gateway whose answers the test gives.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::fixture::Fixture;
use crate::net::World;
use crate::wait;

/// A running s_server with the fixture's certificate.
#[derive(Debug)]
pub struct SslServer {
    child: Child,
    log: PathBuf,
}

impl SslServer {
    /// Starts it on port 443 with these further arguments and waits until it listens.
    ///
    /// # Panics
    /// It does not come up.
    pub fn start(world: &World, fixture: &Fixture, arguments: &str) -> Self {
        let log = fixture.path("s_server.out");
        let out = File::create(&log).unwrap();
        let child = world
            .server
            .command("openssl")
            .args([
                "s_server",
                "-accept",
                "443",
                "-cert",
                "server-cert.pem",
                "-key",
                "server-key.pem",
            ])
            .args(arguments.split_whitespace())
            .current_dir(fixture.dir())
            .stdin(Stdio::piped())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let server = Self { child, log };
        server.wait_for("ACCEPT", 1);
        server
    }

    /// What it has said, and what clients have sent to it.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it has said this so many times.
    ///
    /// # Panics
    /// It does not.
    pub fn wait_for(&self, text: &str, times: usize) {
        wait::until(&format!("'{text}' of s_server"), || {
            (self.log().matches(text).count() >= times).then_some(())
        });
    }

    /// Writes to its standard input: commands, such as `R`, or what it sends to the client.
    ///
    /// # Panics
    /// It has ended.
    pub fn say(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Sends an HTTP response with further header lines.
    ///
    /// # Panics
    /// It has ended.
    pub fn answer(&mut self, headers: &str, body: &str) {
        let len = body.len();
        self.say(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n{headers}\r\n{body}"
        ));
    }
}

impl Drop for SslServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
