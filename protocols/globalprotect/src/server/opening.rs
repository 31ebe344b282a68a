//! From a cookie to an open tunnel (`specs/globalprotect.md` §9, §11, §17.2).
//!
//! The configuration opens the session's tunnel, with keys for ESP. The connection goes on with
//! requests ([`super::beside`]) until the client closes it, because ESP works, or turns it into the
//! tunnel's TLS channel.

use std::net::IpAddr;
use std::sync::Arc;

use culvert_esp::{Integrity, Spi, inner_mtu};
use culvert_login::server::{Claims, ClientDescription, Demand, Granted, Link, Opened, Refusal};
use culvert_tls::{Negotiated, TlsError};
use culvert_vocab::{MTU_MAX, Mtu, SessionId, Timers};
use culvert_wire::http::Response;
use ipnet::IpNet;

use super::channels::{Announced, Channels};
use super::config_answer::{Grant, config_answer, config_refusal};
use super::front_end::FrontEndConfig;
use super::pages;
use super::request::ConfigRequest;
use crate::data::Sources;
use crate::wire::{EspParameters, START_TUNNEL};

/// Smallest path MTU that is believed.
const PATH_MTU_MIN: u16 = 1280;

/// A client's wish for its tunnel.
#[derive(Debug)]
pub struct Opening {
    pub(super) config: Arc<FrontEndConfig>,
    pub(super) wish: Wish,
    /// What the client says of the session.
    pub(super) claims: Claims,
}

/// How the client asks.
#[derive(Debug)]
pub(super) enum Wish {
    /// For its configuration.
    Config(Box<ConfigRequest>),
    /// For the tunnel over TLS, on a connection that has got no configuration.
    Stream(SessionId),
}

impl Opening {
    /// The session that the client names.
    pub fn session(&self) -> &SessionId {
        match &self.wish {
            Wish::Config(request) => &request.session,
            Wish::Stream(session) => session,
        }
    }
}

impl culvert_login::server::Opening for Opening {
    type Channels = Channels;

    fn demand(&self, _tls: &Negotiated) -> Demand {
        match &self.wish {
            Wish::Config(request) => Demand {
                session: request.session.clone(),
                claims: self.claims.clone(),
                client: request.client.describe(),
                hostname: request.client.computer.clone(),
                ipv4: true,
                ipv6: request.ipv6,
                datagrams: request.algorithms.is_some(),
            },
            Wish::Stream(session) => Demand {
                session: session.clone(),
                claims: self.claims.clone(),
                client: ClientDescription::default(),
                hostname: None,
                ipv4: true,
                ipv6: true,
                datagrams: false,
            },
        }
    }

    fn refuse(&self, why: Refusal) -> Response {
        match self.wish {
            Wish::Config(_) => config_refusal(why == Refusal::NotAcceptable),
            Wish::Stream(_) => pages::tunnel_refusal(),
        }
    }

    fn open(self, granted: &Granted, link: Link<'_>) -> Result<Opened<Channels>, TlsError> {
        let request = match self.wish {
            Wish::Config(request) => request,
            Wish::Stream(_) => {
                let channels = Channels {
                    esp: None,
                    sources: sources(granted),
                    beside: None,
                };
                let mtu = mtu(granted, &link, None);
                return Ok(opened(granted, START_TUNNEL.to_vec(), mtu, channels));
            }
        };
        let esp = granted.datagram.as_ref().zip(request.algorithms);
        let esp = esp.and_then(|(datagram, algorithms)| {
            let up = Spi::of_session(&datagram.id);
            EspParameters::generate(datagram.port, up, algorithms, link.random)
        });
        let mtu = mtu(granted, &link, esp.as_ref());
        let mut config = granted.config.clone();
        config.mtu = mtu;
        let grant = Grant {
            config,
            portal: self.config.portal.clone(),
            user: granted.user.clone(),
            esp: esp.clone(),
        };
        let answer = config_answer(&grant).to_bytes();
        let channels = Channels {
            esp,
            sources: sources(granted),
            beside: Some(Box::new(Announced {
                session: request.session,
                claims: self.claims,
                report: granted.report,
                grant,
                config: FrontEndConfig::clone(&self.config),
            })),
        };
        Ok(opened(granted, answer, mtu, channels))
    }
}

fn opened(granted: &Granted, answer: Vec<u8>, mtu: Mtu, channels: Channels) -> Opened<Channels> {
    Opened {
        answer,
        mtu,
        mtu_limit: mtu.get(),
        stream: granted.config.stream,
        // Clients keep ESP alive themselves.
        datagram: Timers {
            keepalive: None,
            ..granted.config.datagram
        },
        own_rekey: None,
        switch_to_stream: None,
        channels,
    }
}

/// The client's addresses, and the networks behind it.
fn sources(granted: &Granted) -> Sources {
    let config = &granted.config;
    let ipv4 = config.ipv4.map(|ipv4| IpNet::from(IpAddr::V4(ipv4.address)));
    let ipv6 = config
        .ipv6
        .and_then(|ipv6| IpNet::new(ipv6.address.into(), ipv6.prefix_len).ok());
    let own = ipv4.into_iter().chain(ipv6);
    Sources::new(own.chain(granted.networks_behind.iter().copied()).collect())
}

/// What fits a datagram to this client; a tunnel over TLS carries the same, so that the client
/// may change between the two.
fn mtu(granted: &Granted, link: &Link<'_>, esp: Option<&EspParameters>) -> Mtu {
    let path = link.path_mtu.filter(|mtu| *mtu >= PATH_MTU_MIN);
    let configured = granted.config.mtu.get();
    let octets = path.map_or(configured, |path| path.min(configured));
    let integrity = esp.map_or(Integrity::HmacSha1, |esp| esp.up.integrity());
    inner_mtu(octets.min(MTU_MAX), link.ipv6, integrity)
}
