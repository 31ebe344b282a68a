//! Fuzz targets: every parser that reads what a peer sends, as a function of octets that must not
//! panic, hang or use memory without bound.
//!
//! `fuzz/corpus/TARGET/` holds seeds and whatever once failed. `cargo test -p culvert-fuzz` replays
//! them, with some deterministic changes; `make fuzz SECONDS=n` lets libFuzzer look for more.

#![forbid(unsafe_code)]

mod anyconnect;
mod formats;
mod globalprotect;
mod gssapi;
mod http;
mod login;
mod oidc;
mod packets;
mod radius;
mod records;
mod server;

/// A target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Must return, whatever the octets.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "http-request",
        run: http::request,
    },
    Target {
        name: "http-response",
        run: http::response,
    },
    Target {
        name: "http-auth",
        run: http::authentication,
    },
    Target {
        name: "xml",
        run: formats::xml,
    },
    Target {
        name: "url-and-form",
        run: formats::url_and_form,
    },
    Target {
        name: "certificate",
        run: formats::certificate,
    },
    Target {
        name: "tpm-key-file",
        run: formats::tpm_key_file,
    },
    Target {
        name: "kkdcp",
        run: formats::kdc_proxy_message,
    },
    Target {
        name: "compression",
        run: packets::compression,
    },
    Target {
        name: "inner-packets",
        run: packets::inner,
    },
    Target {
        name: "anyconnect-login",
        run: anyconnect::login,
    },
    Target {
        name: "anyconnect-connect",
        run: anyconnect::connect,
    },
    Target {
        name: "anyconnect-server",
        run: anyconnect::server,
    },
    Target {
        name: "anyconnect-frames",
        run: anyconnect::frames,
    },
    Target {
        name: "globalprotect-login",
        run: globalprotect::login,
    },
    Target {
        name: "globalprotect-config",
        run: globalprotect::config,
    },
    Target {
        name: "globalprotect-server",
        run: globalprotect::server,
    },
    Target {
        name: "globalprotect-frames",
        run: globalprotect::frames,
    },
    Target {
        name: "tls-accept",
        run: records::tls_accept,
    },
    Target {
        name: "dtls",
        run: records::dtls,
    },
    Target {
        name: "dtls-resumption",
        run: records::dtls_resumption,
    },
    Target {
        name: "esp",
        run: records::esp,
    },
    Target {
        name: "oidc",
        run: oidc::documents_and_tokens,
    },
    Target {
        name: "radius",
        run: radius::replies,
    },
    Target {
        name: "worker-messages",
        run: server::worker_messages,
    },
    Target {
        name: "control-messages",
        run: server::control_messages,
    },
    Target {
        name: "proxy-header",
        run: server::proxy_header,
    },
    Target {
        name: "gssapi-token",
        run: gssapi::tokens,
    },
    Target {
        name: "password-file",
        run: server::password_file,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}

/// Cuts an input into at most eight parts, at the octet 0xff, which text does not have.
fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|octet| *octet == 0xff).take(8)
}
