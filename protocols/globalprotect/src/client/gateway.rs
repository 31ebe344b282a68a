//! The requests that need only the cookie (`specs/globalprotect.md` §9.1, §10, §11, §15).

use std::net::{Ipv4Addr, Ipv6Addr};

use culvert_esp::{Encryption, Integrity};
use culvert_vocab::{SecretString, TunnelConfig};
use culvert_wire::http::Request;
use culvert_wire::url::ServerUrl;

use super::cookie::Cookie;
use super::request::{Client, post, post_text};
use crate::wire::{Parameters, encryption_name, integrity_name, path};

/// Version of the official client that is repeated when no portal told another one.
const APP_VERSION: &str = "6.3.0-33";

/// Algorithms offered, in this order.
const INTEGRITY: [Integrity; 3] = [Integrity::HmacSha1, Integrity::HmacMd5, Integrity::HmacSha256];
const ENCRYPTION: [Encryption; 2] = [Encryption::Aes128Cbc, Encryption::Aes256Cbc];

/// A gateway where the client is logged in.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// The gateway.
    pub server: ServerUrl,
    /// The session.
    pub cookie: Cookie,
    /// What requests tell about the client.
    pub client: Client,
    /// The portal's version, if one was logged in to.
    pub app_version: Option<String>,
}

impl Gateway {
    /// Asks for the tunnel's configuration, with fresh keys; `previous` is the one of this session
    /// before, whose addresses are wanted again.
    pub fn config_request(&self, previous: Option<&TunnelConfig>) -> Request {
        let names = |names: Vec<&str>| names.join(",");
        let body = Parameters::new()
            .with("client-type", "1")
            .with("protocol-version", "p1")
            .with("internal", "no")
            .with("app-version", self.app_version.as_deref().unwrap_or(APP_VERSION))
            .with("ipv6-support", self.client.ipv6_support())
            .with("clientos", self.client.os.name())
            .with("os-version", self.client.os.version())
            .with("hmac-algo", &names(INTEGRITY.map(integrity_name).to_vec()))
            .with("enc-algo", &names(ENCRYPTION.map(encryption_name).to_vec()));
        let body = match previous {
            Some(config) => {
                let (ipv4, ipv6) = addresses(config);
                body.with("preferred-ip", &text(ipv4))
                    .with("preferred-ipv6", &text(ipv6))
                    .and(&self.cookie.without_addresses())
            }
            None => body.and(self.cookie.fields()),
        };
        post(&self.server, path::CONFIG, None, &body)
    }

    /// Asks whether a report about this host is wanted.
    pub fn hip_check_request(&self, config: &TunnelConfig) -> Request {
        let body = self.hip_body(config).with("md5", &self.cookie.hip_token());
        post(&self.server, path::HIP_CHECK, None, &body)
    }

    /// Submits a report.
    pub fn hip_report_request(&self, config: &TunnelConfig, report: &str) -> Request {
        let body = self.hip_body(config).with("report", report);
        post(&self.server, path::HIP_REPORT, None, &body)
    }

    fn hip_body(&self, config: &TunnelConfig) -> Parameters {
        let (ipv4, ipv6) = addresses(config);
        Parameters::new()
            .with("client-role", "global-protect-full")
            .and(self.cookie.fields())
            .with_some("client-ip", ipv4.map(|ip| ip.to_string()).as_deref())
            .with_some("client-ipv6", ipv6.map(|ip| ip.to_string()).as_deref())
    }

    /// Arguments of the script of `--csd-wrapper`.
    pub fn hip_script_arguments(&self, config: &TunnelConfig) -> Vec<SecretString> {
        let (ipv4, ipv6) = addresses(config);
        let mut arguments: Vec<SecretString> = vec!["--cookie".into(), self.cookie.to_secret()];
        if let Some(ip) = ipv4 {
            arguments.extend(["--client-ip".into(), ip.to_string().into()]);
        }
        if let Some(ip) = ipv6 {
            arguments.extend(["--client-ipv6".into(), ip.to_string().into()]);
        }
        let token = self.cookie.hip_token();
        arguments.extend(["--md5", &token, "--client-os", self.client.os.name()].map(SecretString::from));
        arguments
    }

    /// Opens the TLS tunnel: a request without any header. `url` is what the configuration gave.
    pub fn tunnel_request(&self, url: Option<&str>) -> Request {
        Request::new("GET", self.cookie.tunnel_target(url).expose())
    }

    /// Ends the session.
    pub fn logout_request(&self) -> Request {
        post_text(&self.server, path::LOGOUT, None, &self.cookie.to_secret())
    }
}

fn addresses(config: &TunnelConfig) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    (config.ipv4.map(|ip| ip.address), config.ipv6.map(|ip| ip.address))
}

fn text(address: Option<impl ToString>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}
