//! Listening sockets (`specs/server-config.md` §4.1).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use culvert_server_config::Global;
use culvert_sys::netns::NetworkNamespace;
use culvert_sys::udp::{PathMtuDiscovery, UdpSocket};
use socket2::{Domain, Protocol, Socket, Type};

use super::filter;

/// Queue of connections that the kernel keeps for us.
const BACKLOG: i32 = 1024;

/// Sockets that clients reach.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// For TLS.
    pub(crate) tcp: Vec<TcpListener>,
    /// For first datagrams, each with the address it is bound to.
    pub(crate) udp: Vec<(UdpSocket, SocketAddr)>,
    /// What happened, one line each: notes about sockets and warnings about refused addresses.
    pub(crate) notes: Vec<String>,
    /// Where they are, unless in this process's own namespace.
    pub(crate) namespace: Option<Rc<NetworkNamespace>>,
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// `listen-host` does not resolve.
    #[error("error: cannot resolve the listen host '{host}': {cause}")]
    Resolve {
        /// The configured name.
        host: String,
        /// Why not.
        cause: io::Error,
    },
    /// `listen-netns` names no namespace.
    #[error("cannot init listen namespaces: '{name}': {cause}")]
    Namespace {
        /// The configured name.
        name: String,
        /// Why not.
        cause: io::Error,
    },
    /// The service manager has passed sockets, and none is of use.
    #[error("no useful sockets were provided by systemd")]
    NoneInherited,
    /// Not one TCP address could be bound.
    #[error("{reasons}Could not listen to any TCP ports")]
    NoTcp {
        /// One line per address.
        reasons: String,
    },
}

impl Listeners {
    /// Takes the sockets that a service manager has opened, or opens those of a configuration.
    ///
    /// # Errors
    /// See [`ListenError`]. That single addresses are refused is only noted.
    pub(crate) fn open(global: &Global, inherited: Vec<OwnedFd>) -> Result<Self, ListenError> {
        if !inherited.is_empty() {
            return Self::adopt(inherited, global);
        }
        let Some(name) = &global.listen_netns else {
            return Self::open_here(global);
        };
        let failed = |cause| {
            let name = name.clone();
            ListenError::Namespace { name, cause }
        };
        let namespace = NetworkNamespace::named(name).map_err(failed)?;
        let listeners = namespace.enter(|| Self::open_here(global)).map_err(failed)??;
        let namespace = Some(Rc::new(namespace));
        Ok(Self {
            namespace,
            ..listeners
        })
    }

    /// Sockets that are open already. Their ports count, not the configured ones.
    fn adopt(inherited: Vec<OwnedFd>, global: &Global) -> Result<Self, ListenError> {
        let mut listeners = Self::none();
        for fd in inherited {
            let adopted = listeners.adopt_one(fd, global);
            if let Err(error) = adopted {
                listeners
                    .notes
                    .push(format!("warning: a socket of systemd: {error}"));
            }
        }
        if listeners.tcp.is_empty() && listeners.udp.is_empty() {
            return Err(ListenError::NoneInherited);
        }
        let count = listeners.tcp.len() + listeners.udp.len();
        listeners
            .notes
            .push(format!("listening on {count} systemd sockets..."));
        Ok(listeners)
    }

    fn adopt_one(&mut self, fd: OwnedFd, global: &Global) -> io::Result<()> {
        let socket = Socket::from(fd);
        let Some(address) = socket.local_addr()?.as_socket() else {
            self.notes.push("Non-internet socket fd received!".to_owned());
            return Ok(());
        };
        // The sockets of single clients share the port.
        socket.set_reuse_address(true)?;
        match socket.r#type()? {
            Type::STREAM => {
                socket.set_nonblocking(true)?;
                self.tcp.push(socket.into());
            }
            Type::DGRAM => {
                let socket = UdpSocket::from_fd(socket.into())?;
                prepare_udp(&socket, global.try_mtu_discovery)?;
                // Without it main sorts out the junk itself.
                let first = filter::first_datagrams(global.serves_globalprotect());
                let _best_effort = socket.set_filter(&first);
                self.udp.push((socket, address));
            }
            other => self
                .notes
                .push(format!("a socket of type {other:?} is of no use")),
        }
        Ok(())
    }

    fn none() -> Self {
        Self {
            tcp: Vec::new(),
            udp: Vec::new(),
            notes: Vec::new(),
            namespace: None,
        }
    }

    fn open_here(global: &Global) -> Result<Self, ListenError> {
        let mut listeners = Self::none();
        let mut refused = String::new();
        for address in addresses(global.listen_host.as_deref(), global.tcp_port)? {
            match listen_tcp(address) {
                Ok(socket) => {
                    listeners.notes.push(format!("listening (TCP) on {address}..."));
                    listeners.tcp.push(socket);
                }
                Err(error) => refused += &format!("warning: cannot listen (TCP) on {address}: {error}\n"),
            }
        }
        if listeners.tcp.is_empty() {
            return Err(ListenError::NoTcp { reasons: refused });
        }
        let esp = global.serves_globalprotect();
        if let Some(port) = global.udp_port {
            let host = global
                .udp_listen_host
                .as_deref()
                .or(global.listen_host.as_deref());
            for address in addresses(host, port)? {
                match listen_udp(address, global.try_mtu_discovery, esp) {
                    Ok(socket) => {
                        listeners.notes.push(format!("listening (UDP) on {address}..."));
                        listeners.udp.push((socket, address));
                    }
                    Err(error) => refused += &format!("warning: cannot listen (UDP) on {address}: {error}\n"),
                }
            }
        }
        listeners.notes.extend(refused.lines().map(str::to_owned));
        Ok(listeners)
    }
}

/// All addresses of `host`, or the wildcards of both families.
fn addresses(host: Option<&str>, port: u16) -> Result<Vec<SocketAddr>, ListenError> {
    let Some(host) = host else {
        return Ok(vec![
            (Ipv4Addr::UNSPECIFIED, port).into(),
            (Ipv6Addr::UNSPECIFIED, port).into(),
        ]);
    };
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|cause| ListenError::Resolve {
            host: host.to_owned(),
            cause,
        })?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn listen_udp(address: SocketAddr, discover_mtu: bool, esp: bool) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    prepare_udp(&socket, discover_mtu)?;
    // Without it main sorts out the junk itself.
    let _best_effort = socket.set_filter(&filter::first_datagrams(esp));
    Ok(socket)
}

/// Sets up a UDP socket that listens.
///
/// # Errors
/// It could not tell which of our addresses a datagram was sent to.
pub(crate) fn prepare_udp(socket: &UdpSocket, discover_mtu: bool) -> io::Result<()> {
    socket.receive_local_address(true)?;
    let mode = if discover_mtu {
        PathMtuDiscovery::On
    } else {
        PathMtuDiscovery::Off
    };
    // Where the system refuses (preload wrappers), fragmentation is simply the kernel's business.
    let _best_effort = socket.set_path_mtu_discovery(mode);
    Ok(())
}

/// `address` without IPv4-mapped form, so that bans, logs, scripts and the roaming check see one
/// spelling of a client.
pub(crate) fn unmapped(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 @ IpAddr::V4(_) => v4,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_occupied_port_is_an_error_and_says_so() {
        let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = occupied.local_addr().unwrap();
        let error = listen_tcp(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn wildcards_of_both_families_do_not_collide() {
        let four = listen_tcp("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = four.local_addr().unwrap().port();
        let six = listen_tcp(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port));
        assert!(six.is_ok(), "{six:?}");
    }

    #[test]
    fn names_resolve_without_duplicates() {
        let found = addresses(Some("127.0.0.1"), 443).unwrap();
        assert_eq!(found, ["127.0.0.1:443".parse().unwrap()]);
        assert!(addresses(Some("no-such-host.invalid"), 443).is_err());
    }

    #[test]
    fn mapped_addresses_are_unmapped() {
        assert_eq!(
            unmapped("[::ffff:1.2.3.4]:5".parse().unwrap()),
            "1.2.3.4:5".parse().unwrap()
        );
        assert_eq!(
            unmapped("[2001:db8::1]:5".parse().unwrap()),
            "[2001:db8::1]:5".parse().unwrap()
        );
    }
}
