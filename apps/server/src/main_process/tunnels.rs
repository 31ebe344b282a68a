//! Opening a tunnel: addresses, device, connect script, grant (`specs/server-auth.md` §4.3).

use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Command;
use std::time::{Instant, SystemTime};

use culvert_control::messages as control;
use culvert_server_config::route_text;
use culvert_sys::random;
use culvert_sys::tun::Tun;

use super::device;
use super::firewall::Firewall;
use super::grant;
use super::iroutes::{self, RouteCommands};
use super::ping;
use super::scripts::{self, Reason, Scripts, Subject};
use super::state::{Event, Opening, Phase, Pinging, Pooled, Server, Stage, Tunnel, unix_time};
use crate::ipc::link::LinkError;
use crate::ipc::messages::{ConnectionId, DatagramGrant, MainToBroker, MainToWorker, Refusal, TunnelWish};
use crate::ipc::session::{Addresses, CloseReason, VerifiedSession};
use crate::log::{self, Level};

/// Addresses that are tried for one client when others have them.
const PINGS_MAX: u8 = 16;

impl Server {
    /// The broker has verified a cookie: open the tunnel of its session.
    pub(crate) fn open_tunnel(&mut self, id: ConnectionId, session: VerifiedSession, wish: TunnelWish) {
        let old = self
            .sessions
            .get(&session.id)
            .copied()
            .filter(|old| self.connections.contains_key(old));
        let Some(connection) = self.connections.get_mut(&id) else {
            return self.tell_broker(&MainToBroker::TunnelRefused(id));
        };
        connection.shown.username = Some(session.user.to_string());
        connection.shown.groupname = session.group.as_ref().map(ToString::to_string);
        connection.shown.vhost = session.host.clone();
        if !matches!(connection.phase, Phase::Login) || self.stage >= Stage::Stopping {
            return self.refuse(id, Refusal::Server);
        }
        self.log(id, Level::Info, "new user session");
        let Some(old) = old else {
            return self.prepare(id, session, wish, 0);
        };
        // The session moves here. Its old connection ends first, so that device and addresses are
        // free and the scripts run in order.
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.phase = Phase::Waiting(Box::new((session, wish)));
        }
        self.log(
            id,
            Level::Info,
            "reconnecting; the old connection of the session ends",
        );
        if let Some(overtaken) = self.successors.insert(old, id) {
            self.refuse(overtaken, Refusal::NotAcceptable);
        }
        self.end(old, CloseReason::ServerDisconnect);
    }

    /// The connection that held the session is gone.
    pub(crate) fn resume_open(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        match std::mem::replace(&mut connection.phase, Phase::Login) {
            Phase::Waiting(waiting) => {
                let (session, wish) = *waiting;
                self.prepare(id, session, wish, 0);
            }
            other => connection.phase = other,
        }
    }

    /// Addresses for a session that no connection has. Whatever fails, it holds no lease
    /// afterwards, not even one that it had with an earlier connection. `tried` addresses answered
    /// to a ping.
    fn prepare(&mut self, id: ConnectionId, session: VerifiedSession, wish: TunnelWish, tried: u8) {
        let mut fill = |bytes: &mut [u8]| {
            // Addresses are no secrets: without randomness they are merely predictable.
            let _best_effort = random::fill(bytes);
        };
        self.sessions.insert(session.id.clone(), id);
        let held = self.leases.holds(&session.id);
        let addresses = match self.leases.assign(&session, &wish, &mut fill) {
            Ok(addresses) => addresses,
            Err(error) => {
                self.log(id, Level::Warning, &error.to_string());
                self.release_session(id, &session.id);
                return self.refuse(id, Refusal::NotAcceptable);
            }
        };
        if addresses.ipv4.is_none() && addresses.ipv6.is_none() {
            self.log(
                id,
                Level::Error,
                "no IP address is configured for this user and the families its client asks for",
            );
            self.release_session(id, &session.id);
            return self.refuse(id, Refusal::Configuration);
        }
        let unsettled = addresses
            .ipv4
            .filter(|_| self.config.global.ping_leases && !held && session.settings.explicit_ipv4.is_none());
        match unsettled {
            None => self.set_up(id, session, wish, addresses),
            Some(address) => {
                let Some(connection) = self.connections.get_mut(&id) else {
                    return;
                };
                connection.phase = Phase::Pinging(Box::new(Pinging {
                    session,
                    wish,
                    addresses,
                    tried: tried + 1,
                }));
                self.ping(id, address.address);
            }
        }
    }

    fn ping(&self, id: ConnectionId, address: Ipv4Addr) {
        let events = self.events.clone();
        // Concurrent pings are to different addresses, so this need not be unique.
        let identifier = (id.0 & 0xffff) as u16;
        tokio::task::spawn_local(async move {
            let answered = ping::answers(address, identifier).await.unwrap_or_else(|error| {
                log::write(Level::Warning, &format!("main: cannot ping {address}: {error}"));
                false
            });
            let _main_is_over = events.send(Event::LeasePinged(id, answered)).await;
        });
    }

    /// It is known whether somebody has the address. If so, another one is tried.
    pub(crate) fn handle_pinged(&mut self, id: ConnectionId, answered: bool) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        // One that is told to end gives back what it has at its end.
        if connection.ended_by_us.is_some() || !matches!(connection.phase, Phase::Pinging(_)) {
            return;
        }
        let Phase::Pinging(pinging) = std::mem::replace(&mut connection.phase, Phase::Login) else {
            return;
        };
        let Pinging {
            session,
            wish,
            addresses,
            tried,
        } = *pinging;
        match addresses.ipv4.filter(|_| answered) {
            None => self.set_up(id, session, wish, addresses),
            Some(_) if tried >= PINGS_MAX => {
                self.log(
                    id,
                    Level::Warning,
                    "could not figure out a valid IPv4 IP: all answer to pings",
                );
                self.release_session(id, &session.id);
                self.refuse(id, Refusal::NotAcceptable);
            }
            Some(taken) => {
                let text = format!("somebody else has the address {}", taken.address);
                self.log(id, Level::Info, &text);
                self.leases.release(&session.id);
                self.leases.avoid(taken.address);
                self.prepare(id, session, wish, tried);
            }
        }
    }

    /// The device of a session that has its addresses.
    fn set_up(&mut self, id: ConnectionId, session: VerifiedSession, wish: TunnelWish, addresses: Addresses) {
        let iroutes = if iroutes::has_commands(&self.config.global) {
            &[]
        } else {
            session.settings.iroutes.as_slice()
        };
        let made = device::create(
            &self.fixed.device,
            &addresses,
            iroutes,
            self.fixed.confinement.ids,
            self.fixed.device_group,
        );
        let device = match made {
            Ok(device) => device,
            Err(error) => {
                self.log(id, Level::Error, &format!("cannot give a tunnel: {error}"));
                self.release_session(id, &session.id);
                return self.refuse(id, Refusal::Server);
            }
        };
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let subject = Subject {
            id: connection.shown.id,
            device: device.tun.name().to_owned(),
            device_index: device.index,
            addresses,
            peer: connection.peer,
            local: connection.local,
            session,
            wish,
        };
        show(&mut connection.shown, &subject);
        self.log_assigned(id, &subject);
        let script = self.config.global.connect_script.clone();
        let program = scripts::firewall_program();
        let command = scripts::command(&subject, Reason::Connect, script.as_deref(), program);
        let routes = RouteCommands::new(&self.config.global, &subject);
        let firewall = Firewall::of(&subject);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.phase = Phase::Opening(Box::new(Opening { subject, device }));
        }
        if command.is_none() && routes.is_empty() && firewall.is_none() {
            return self.grant(id);
        }
        let (events, scripts) = (self.events.clone(), self.scripts.clone());
        tokio::task::spawn_local(async move {
            let result = bring_up(&scripts, firewall.as_ref(), &routes, command).await;
            let _main_is_over = events.send(Event::ConnectScript(id, result)).await;
        });
    }

    /// The connect script has decided.
    pub(crate) fn handle_connect_script(&mut self, id: ConnectionId, result: Result<(), String>) {
        if let Some(subject) = self.orphans.remove(&id) {
            // The client left meanwhile: what the script set up is taken down again.
            if result.is_ok() {
                self.run_disconnect_script(&subject, Default::default(), Default::default());
            }
            return;
        }
        match result {
            Ok(()) => self.grant(id),
            Err(why) => {
                self.log(id, Level::Error, &format!("the user is refused: {why}"));
                let Some(connection) = self.connections.get_mut(&id) else {
                    return;
                };
                if let Phase::Opening(opening) = std::mem::replace(&mut connection.phase, Phase::Ending) {
                    close_aside(opening.device.tun);
                    self.release(id, &opening.subject);
                }
                self.refuse(id, Refusal::NotAcceptable);
            }
        }
    }

    fn grant(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let opening = match std::mem::replace(&mut connection.phase, Phase::Ending) {
            Phase::Opening(opening) => *opening,
            other => return connection.phase = other,
        };
        let Opening { subject, device } = opening;
        if connection.ended_by_us.is_some() {
            // Ended while the script ran; the worker is about to go.
            self.release(id, &subject);
            return self.run_disconnect_script(&subject, Default::default(), Default::default());
        }
        let datagram = self.datagram_grant(&subject);
        let datagram_id = datagram.as_ref().map(|datagram| datagram.id);
        let (descriptor, pool) = match self.carrier(&subject, datagram_id, device.tun) {
            Ok(carrier) => carrier,
            Err(error) => {
                self.log(id, Level::Error, &format!("no process for the tunnel: {error}"));
                self.release(id, &subject);
                self.run_disconnect_script(&subject, Default::default(), Default::default());
                return self.refuse(id, Refusal::Server);
            }
        };
        let mut message = grant::grant(&subject, datagram);
        message.pooled = pool.is_some();
        self.tell_worker(id, &MainToWorker::Grant(Box::new(message)), vec![descriptor]);
        self.tell_broker(&MainToBroker::TunnelOpened {
            id,
            addresses: subject.addresses,
        });
        self.announce_hostname(&subject);
        self.note_login(&subject, true);

        if let Some(identifier) = datagram_id {
            self.datagram_sessions
                .borrow_mut()
                .add(id, identifier, subject.peer.ip());
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.shown.state = control::AuthState::Authenticated;
        connection.shown.session_started_at = unix_time(subject.session.authenticated_at);
        let shown = connection.shown.clone();
        connection.phase = Phase::Open(Box::new(Tunnel {
            subject,
            device_index: device.index,
            pool,
            opened: Instant::now(),
        }));
        self.log(id, Level::Info, "user logged in");
        self.announce(control::EventKind::Connect, shown);
    }

    fn log_assigned(&self, id: ConnectionId, subject: &Subject) {
        let Addresses { ipv4, ipv6, .. } = subject.addresses;
        if let Some(ipv4) = ipv4 {
            self.log(id, Level::Debug, &format!("assigned IPv4: {}", ipv4.address));
        }
        if let Some(ipv6) = ipv6 {
            let text = format!("assigned IPv6: {}/{}", ipv6.address, ipv6.prefix_len);
            self.log(id, Level::Debug, &text);
        }
        let text = format!("assigning tun device {}", subject.device);
        self.log(id, Level::Debug, &text);
        let group = subject.session.group.as_ref();
        let group = group.map_or("[unknown]", |group| group.as_str());
        let text = format!("user of group '{group}' authenticated (using cookie)");
        self.log(id, Level::Debug, &text);
    }

    /// The descriptor for the login's worker: the device, or with a pool the way to the process that
    /// gets it.
    fn carrier(
        &self,
        subject: &Subject,
        datagram_id: Option<[u8; 32]>,
        device: Tun,
    ) -> Result<(OwnedFd, Option<Pooled>), LinkError> {
        let Some(pool) = &self.pool else {
            return Ok((device.into_fd(), None));
        };
        let copy = device.as_fd().try_clone_to_owned()?;
        let (process, channel) = pool.adopt(subject.peer.ip(), datagram_id, copy)?;
        let device = Some(device);
        Ok((channel, Some(Pooled { process, device })))
    }

    fn datagram_grant(&self, subject: &Subject) -> Option<DatagramGrant> {
        let port = self.fixed.udp_port?;
        if subject.session.settings.no_udp || !subject.wish.udp {
            return None;
        }
        let mut id = [0; 32];
        loop {
            if let Err(error) = random::fill(&mut id) {
                let text = format!("main: no random numbers, so no UDP: {error}");
                log::write(Level::Error, &text);
                return None;
            }
            if self.datagram_sessions.borrow().is_free(&id) {
                return Some(DatagramGrant { id, port });
            }
        }
    }

    fn announce_hostname(&mut self, subject: &Subject) {
        let config = self.config.clone();
        let script = config.global.host_update_script.as_deref();
        if subject.wish.hostname.is_some()
            && let Some(command) = scripts::command(subject, Reason::HostUpdate, script, None)
        {
            self.run_detached(command);
        }
    }
}

/// Closes a device without waiting: that takes long beside thousands of others.
fn close_aside(device: Tun) {
    tokio::task::spawn_blocking(move || drop(device));
}

/// Puts the rules of a restricted session in force, runs the commands for the networks behind the
/// client, then the connect script. When anything fails, all of it is undone.
async fn bring_up(
    scripts: &Scripts,
    firewall: Option<&Firewall>,
    routes: &RouteCommands,
    script: Option<Command>,
) -> Result<(), String> {
    if let Some(firewall) = firewall {
        firewall
            .install()
            .await
            .map_err(|why| format!("firewall: {why}"))?;
    }
    let mut result = routes.add(scripts).await;
    if let (Ok(()), Some(script)) = (&result, script) {
        result = scripts.run(script).await;
        if result.is_err() {
            routes.remove(scripts).await;
        }
    }
    if let (Err(_), Some(firewall)) = (&result, firewall) {
        firewall.remove().await;
    }
    result
}

/// Fills in what `occtl` shows of a session.
fn show(shown: &mut control::Connection, subject: &Subject) {
    let Subject {
        session,
        wish,
        addresses,
        ..
    } = subject;
    let settings = &session.settings;
    let Addresses {
        ipv4,
        ipv4_local,
        ipv6,
        ipv6_local,
    } = *addresses;
    shown.device = Some(subject.device.clone());
    shown.ipv4 = ipv4
        .zip(ipv4_local)
        .map(|(client, server)| control::TunnelAddresses {
            client: client.address,
            server,
        });
    shown.ipv6 = ipv6
        .zip(ipv6_local)
        .map(|(client, server)| control::TunnelAddresses {
            client: client.address,
            server,
        });
    shown.user_agent = Some(wish.client.user_agent.as_str().to_owned()).filter(|text| !text.is_empty());
    shown.hostname = wish.hostname.as_ref().map(ToString::to_string);
    shown.tls_ciphersuite = Some(wish.tls.as_str().to_owned()).filter(|text| !text.is_empty());
    shown.session = Some(session.id.clone());
    shown.session_started_at = unix_time(SystemTime::now());
    shown.dpd = settings
        .dpd
        .map_or(0, |time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
    shown.keepalive = settings
        .keepalive
        .map_or(0, |time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
    shown.rx_limit = Some(settings.rx_per_second).filter(|limit| *limit > 0);
    shown.tx_limit = Some(settings.tx_per_second).filter(|limit| *limit > 0);
    shown.dns = settings.dns.iter().map(ToString::to_string).collect();
    shown.nbns = settings.nbns.iter().map(ToString::to_string).collect();
    shown.split_dns = settings.split_dns.clone();
    shown.default_route = settings.routes.is_empty();
    shown.routes = settings.routes.iter().map(route_text).collect();
    shown.no_routes = settings.no_routes.iter().map(route_text).collect();
    shown.iroutes = settings.iroutes.iter().map(route_text).collect();
    shown.restricted_to_routes = settings.restrict_to_routes;
}
