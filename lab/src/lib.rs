//! The laboratory: network namespaces, real peers, fixtures and probes for the end-to-end tests,
//! the demo and the benchmark. Nothing here is part of the product.
//!
//! A [`World`] is two hosts and a wire between them; [`Server`] and [`Client`] are the programs on
//! them, ours or Debian's ([`Make`]), started with the same command lines and files. Everything a
//! world made is gone when it is dropped.

#![forbid(unsafe_code)]
// The laboratory runs only on machines of developers and of CI: it stops at the first surprise.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod authority;
pub mod client;
pub mod fixture;
pub mod gateway;
pub mod kerberos;
pub mod lan;
pub mod net;
pub mod probe;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod reflector;
pub mod resolved;
pub mod scene;
pub mod server;
pub mod ssl_server;
pub mod wait;

pub use authority::Authority;
pub use client::{Client, ClientOptions};
pub use fixture::{Fixture, PASSWORD, USER};
pub use kerberos::Realm;
pub use net::{Host, World};
pub use process::{Finished, Process};
pub use raw::Raw;
pub use reflector::Reflector;
pub use resolved::Resolved;
pub use scene::Scene;
pub use server::{Server, ServerOptions};
pub use ssl_server::SslServer;

use std::path::PathBuf;

/// Whose programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// The ones that this repository builds.
    Culvert,
    /// Debian's openconnect and ocserv.
    Real,
}

impl Make {
    /// Path of a program of this make.
    ///
    /// # Panics
    /// The program is not installed or not built.
    pub fn program(self, name: &str) -> PathBuf {
        let path = match self {
            Make::Culvert => built(name),
            Make::Real => ["/usr/sbin", "/usr/bin"]
                .iter()
                .map(|dir| PathBuf::from(dir).join(name))
                .find(|path| path.exists())
                .unwrap_or_else(|| panic!("{name} is not installed: apt-get install openconnect ocserv")),
        };
        assert!(
            path.exists(),
            "{} does not exist: run 'cargo build --release'",
            path.display()
        );
        path
    }
}

/// Path of a program of this workspace: `CULVERT_BIN_DIR`, else `target/release`.
pub fn built(name: &str) -> PathBuf {
    let dir = std::env::var_os("CULVERT_BIN_DIR").map(PathBuf::from);
    dir.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release")))
        .join(name)
}
