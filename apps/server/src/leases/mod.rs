//! Which session holds which tunnel address (`specs/server-config.md` §11).
//!
//! Ours, beyond ocserv: explicit addresses are in the table too, so that two users never share one;
//! a pool is scanned when the candidates are taken; the IPv6 candidates are a proper chain; a
//! session that comes back gets its previous addresses when they are still free.

mod candidates;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use culvert_vocab::{AddressV4, AddressV6, SafeId};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::ipc::messages::TunnelWish;
use crate::ipc::session::{Addresses, VerifiedSession};

pub(crate) use candidates::RandomSource;

/// Why no address was leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeaseError {
    /// Every address of the IPv4 pool is taken.
    #[error("could not figure out a valid IPv4 IP: the pool {0} is used up")]
    Ipv4Exhausted(Ipv4Net),
    /// Every network of the IPv6 pool is taken.
    #[error("could not figure out a valid IPv6 IP: the pool {0} is used up")]
    Ipv6Exhausted(Ipv6Net),
    /// The explicit address belongs to another session.
    #[error("the explicit address {0} is in use by another session")]
    ExplicitInUse(IpAddr),
    /// The explicit address is the network's, the broadcast or the server's own.
    #[error("the explicit address {0} is the network, broadcast or server address of its pool")]
    ExplicitReserved(IpAddr),
}

/// All leases; every address belongs to one session at most.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    ipv4: HashMap<Ipv4Addr, SafeId>,
    /// Clients' networks by their first address; they never overlap.
    ipv6: BTreeMap<Ipv6Addr, (Ipv6Addr, SafeId)>,
    sessions: HashMap<SafeId, Lease>,
    /// Addresses that somebody outside has.
    avoided: HashSet<Ipv4Addr>,
}

/// What one session holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Lease {
    ipv4: Option<Ipv4Addr>,
    /// The client's address, host bits included, and the prefix length of its network.
    ipv6: Option<(Ipv6Addr, u8)>,
}

impl LeaseTable {
    /// A table without leases.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Gives a session the addresses that its settings and the client's wish ask for. What the
    /// session holds already it keeps: so a reconnect gets the same addresses, and the connection
    /// that it replaces has nothing to give back. On an error nothing changes.
    ///
    /// A family without a pool gets no address, also no explicit one: the server would have none
    /// of its own.
    ///
    /// # Errors
    /// A pool is used up, or an explicit address cannot be given.
    pub(crate) fn assign(
        &mut self,
        session: &VerifiedSession,
        wish: &TunnelWish,
        random: RandomSource<'_>,
    ) -> Result<Addresses, LeaseError> {
        let settings = &session.settings;
        let held = self.sessions.get(&session.id).copied().unwrap_or_default();
        let mut seed = candidates::seed(session.user.as_str());
        if !settings.predictable_ips {
            random(&mut seed);
        }
        let mut lease = held;
        let mut addresses = Addresses::default();
        if let Some(pool) = settings.ipv4_pool.filter(|_| wish.ipv4) {
            let address = match held.ipv4 {
                Some(address) => address,
                None => match settings.explicit_ipv4 {
                    Some(address) => self.explicit_ipv4(pool, address)?,
                    None => {
                        let previous = session.previous.ipv4.map(|previous| previous.address);
                        self.choose_ipv4(pool, previous, seed, random)?
                    }
                },
            };
            lease.ipv4 = Some(address);
            let own = settings.explicit_ipv4.is_some_and(|explicit| explicit == address);
            let prefix = settings.explicit_ipv4_prefix.filter(|_| own);
            let network = prefix
                .and_then(|prefix| Ipv4Net::new(address, prefix).ok())
                .unwrap_or(pool);
            addresses.ipv4 = Some(AddressV4 {
                address,
                netmask: Some(network.netmask()),
            });
            addresses.ipv4_local = Some(server_ipv4(pool));
        }
        if let Some(network) = settings.ipv6_pool.filter(|_| wish.ipv6) {
            let pool = Ipv6Pool {
                network,
                client_prefix: settings.ipv6_client_prefix.clamp(network.prefix_len(), 128),
            };
            let explicit = settings.explicit_ipv6.map(|address| {
                let prefix = settings
                    .explicit_ipv6_prefix
                    .unwrap_or(pool.client_prefix)
                    .min(128);
                (address, prefix)
            });
            let (address, prefix_len) = match held.ipv6 {
                Some(held) => held,
                None => match explicit {
                    Some((address, prefix)) => self.explicit_ipv6(pool, address, prefix)?,
                    None => {
                        let previous = session.previous.ipv6.map(|previous| previous.address);
                        self.choose_ipv6(pool, previous, seed, random)?
                    }
                },
            };
            lease.ipv6 = Some((address, prefix_len));
            addresses.ipv6 = Some(AddressV6 { address, prefix_len });
            addresses.ipv6_local = Some(server_ipv6(network));
        }
        if lease != held {
            self.enter(&session.id, lease);
        }
        Ok(addresses)
    }

    /// True when the session has addresses.
    pub(crate) fn holds(&self, session: &SafeId) -> bool {
        self.sessions.contains_key(session)
    }

    /// Leaves an address out, until [`Self::forget_avoided`]. Explicit addresses are given all the
    /// same.
    pub(crate) fn avoid(&mut self, address: Ipv4Addr) {
        self.avoided.insert(address);
    }

    /// Addresses that were left out may be tried again.
    pub(crate) fn forget_avoided(&mut self) {
        self.avoided.clear();
    }

    /// Takes the addresses of a session back, if it holds some. For the end of the last
    /// connection of the session, not of one that was replaced.
    pub(crate) fn release(&mut self, session: &SafeId) {
        let Some(lease) = self.sessions.remove(session) else {
            return;
        };
        if let Some(address) = lease.ipv4 {
            self.ipv4.remove(&address);
        }
        if let Some((address, prefix)) = lease.ipv6 {
            self.ipv6.remove(&subnet(address, prefix).0);
        }
    }

    fn enter(&mut self, session: &SafeId, lease: Lease) {
        if let Some(address) = lease.ipv4 {
            self.ipv4.insert(address, session.clone());
        }
        if let Some((address, prefix)) = lease.ipv6 {
            let (first, last) = subnet(address, prefix);
            self.ipv6.insert(first, (last, session.clone()));
        }
        self.sessions.insert(session.clone(), lease);
    }

    /// True when no session holds any address of the network around `address`.
    fn ipv6_is_free(&self, address: Ipv6Addr, prefix: u8) -> bool {
        let (first, last) = subnet(address, prefix);
        self.ipv6
            .range(..=last)
            .next_back()
            .is_none_or(|(_, (other_last, _))| *other_last < first)
    }

    fn explicit_ipv4(&self, pool: Ipv4Net, address: Ipv4Addr) -> Result<Ipv4Addr, LeaseError> {
        if reserved_ipv4(pool, address) || address.is_unspecified() {
            return Err(LeaseError::ExplicitReserved(address.into()));
        }
        if self.ipv4.contains_key(&address) {
            return Err(LeaseError::ExplicitInUse(address.into()));
        }
        Ok(address)
    }

    fn choose_ipv4(
        &self,
        pool: Ipv4Net,
        previous: Option<Ipv4Addr>,
        seed: [u8; 4],
        random: RandomSource<'_>,
    ) -> Result<Ipv4Addr, LeaseError> {
        let usable = |address: &Ipv4Addr| {
            pool.contains(address)
                && !reserved_ipv4(pool, *address)
                && !self.ipv4.contains_key(address)
                && !self.avoided.contains(address)
        };
        if let Some(address) = previous.filter(usable) {
            return Ok(address);
        }
        let network = pool.network().to_bits();
        let candidates = candidates::ipv4(network, pool.netmask().to_bits(), seed, random);
        if let Some(address) = candidates.into_iter().map(Ipv4Addr::from).find(usable) {
            return Ok(address);
        }
        let hosts = !pool.netmask().to_bits();
        let mut start = [0; 4];
        random(&mut start);
        let start = u32::from_be_bytes(start);
        (0..=hosts)
            .map(|step| Ipv4Addr::from(network | (start.wrapping_add(step) & hosts)))
            .find(usable)
            .ok_or(LeaseError::Ipv4Exhausted(pool))
    }

    fn explicit_ipv6(
        &self,
        pool: Ipv6Pool,
        address: Ipv6Addr,
        prefix: u8,
    ) -> Result<(Ipv6Addr, u8), LeaseError> {
        if reserved_ipv6(pool, address) || address.is_unspecified() {
            return Err(LeaseError::ExplicitReserved(address.into()));
        }
        if !self.ipv6_is_free(address, prefix) {
            return Err(LeaseError::ExplicitInUse(address.into()));
        }
        Ok((address, prefix))
    }

    fn choose_ipv6(
        &self,
        pool: Ipv6Pool,
        previous: Option<Ipv6Addr>,
        seed: [u8; 4],
        random: RandomSource<'_>,
    ) -> Result<(Ipv6Addr, u8), LeaseError> {
        let prefix = pool.client_prefix;
        let usable = |address: &Ipv6Addr| {
            pool.network.contains(address)
                && !reserved_ipv6(pool, *address)
                && self.ipv6_is_free(*address, prefix)
        };
        if let Some(address) = previous.filter(usable) {
            return Ok((address, prefix));
        }
        let network = pool.network.network().to_bits();
        let mask = pool.network.netmask().to_bits();
        let candidates = candidates::ipv6(network, mask, seed, random);
        if let Some(address) = candidates.into_iter().map(Ipv6Addr::from).find(usable) {
            return Ok((address, prefix));
        }
        let mut start = [0; 16];
        random(&mut start);
        let start = u128::from_be_bytes(start);
        // One step is one client network. At most as many are taken as there are leases, and
        // three are reserved, so the scan is short however large the pool is.
        let host_bits = u32::from(128 - prefix);
        let step_size = 1u128.checked_shl(host_bits).unwrap_or(0);
        let last_subnet = (!mask).checked_shr(host_bits).unwrap_or(0);
        (0..=last_subnet.min(self.ipv6.len() as u128 + 3))
            .map(|step| Ipv6Addr::from(network | (start.wrapping_add(step.wrapping_mul(step_size)) & !mask)))
            .find(usable)
            .map(|address| (address, prefix))
            .ok_or(LeaseError::Ipv6Exhausted(pool.network))
    }
}

/// IPv6 pool: the network and the prefix length of what one client gets of it.
#[derive(Debug, Clone, Copy)]
struct Ipv6Pool {
    network: Ipv6Net,
    client_prefix: u8,
}

/// The server's address on every device of an IPv4 pool: the network address with its last bit set.
pub(crate) fn server_ipv4(pool: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(pool.network().to_bits() | 1)
}

/// The server's address on every device of an IPv6 pool.
pub(crate) fn server_ipv6(pool: Ipv6Net) -> Ipv6Addr {
    Ipv6Addr::from(pool.network().to_bits() | 1)
}

fn reserved_ipv4(pool: Ipv4Net, address: Ipv4Addr) -> bool {
    address == pool.network() || address == pool.broadcast() || address == server_ipv4(pool)
}

/// Network and server addresses; where the pool has several client networks, also the one that
/// contains the server.
fn reserved_ipv6(pool: Ipv6Pool, address: Ipv6Addr) -> bool {
    let server = server_ipv6(pool.network);
    if address == pool.network.network() || address == server {
        return true;
    }
    pool.client_prefix > pool.network.prefix_len()
        && subnet(address, pool.client_prefix) == subnet(server, pool.client_prefix)
}

/// First and last address of the network of this prefix length around `address`.
fn subnet(address: Ipv6Addr, prefix: u8) -> (Ipv6Addr, Ipv6Addr) {
    let host_mask = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    let bits = address.to_bits();
    (
        Ipv6Addr::from(bits & !host_mask),
        Ipv6Addr::from(bits | host_mask),
    )
}

#[cfg(test)]
mod tests;
