//! Which connection holds which tunnel address (`specs/server-config.md` §11).
//!
//! Ours, beyond ocserv: explicit addresses are in the table too, so that two users never share one;
//! a pool is scanned when the candidates are taken; the IPv6 candidates are a proper chain; a
//! session that comes back gets its previous addresses when they are still free.

mod candidates;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

pub use candidates::RandomSource;

/// The connection that holds a lease.
pub type Owner = u64;

/// IPv6 pool: the network and the size of what one client gets of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Pool {
    /// `ipv6-network`.
    pub network: Ipv6Net,
    /// `ipv6-subnet-prefix`, from the network's prefix length to 128.
    pub subnet_prefix: u8,
}

/// What a session wants to lease.
#[derive(Debug, Clone, Copy)]
pub struct LeaseRequest<'a> {
    /// The user, from whose name predictable addresses follow.
    pub user: &'a str,
    /// `predictable-ips`.
    pub predictable: bool,
    /// IPv4 pool of the user, group or host; `None`: the session gets no IPv4 address.
    pub ipv4_pool: Option<Ipv4Net>,
    /// IPv6 pool; `None`: the session gets no IPv6 address.
    pub ipv6_pool: Option<Ipv6Pool>,
    /// `explicit-ipv4`; may lie outside the pool.
    pub explicit_ipv4: Option<Ipv4Addr>,
    /// `explicit-ipv6`; may lie outside the pool.
    pub explicit_ipv6: Option<Ipv6Addr>,
    /// What the session had before; used when still free and in the pool.
    pub previous: Lease,
}

/// The addresses of one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Address of the client.
    pub ipv4: Option<Ipv4Addr>,
    /// Address of the client, host bits included.
    pub ipv6: Option<Ipv6Addr>,
    /// Prefix length of the network around `ipv6` that is the client's own; 0 without `ipv6`.
    pub ipv6_prefix: u8,
}

/// Why no address was leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Every address of the IPv4 pool is taken.
    #[error("could not figure out a valid IPv4 IP: the pool {0} is used up")]
    Ipv4Exhausted(Ipv4Net),
    /// Every network of the IPv6 pool is taken.
    #[error("could not figure out a valid IPv6 IP: the pool {0} is used up")]
    Ipv6Exhausted(Ipv6Net),
    /// The explicit address belongs to another connection.
    #[error("the explicit address {0} is in use by another connection")]
    ExplicitInUse(IpAddr),
    /// The explicit address is the network's, the broadcast or the server's own.
    #[error("the explicit address {0} is the network, broadcast or server address of its pool")]
    ExplicitReserved(IpAddr),
}

/// All leases; one owner per address at any time.
#[derive(Debug, Default)]
pub struct LeaseTable {
    ipv4: HashMap<Ipv4Addr, Owner>,
    /// Clients' networks by their first address; they never overlap.
    ipv6: BTreeMap<Ipv6Addr, (Ipv6Addr, Owner)>,
    owners: HashMap<Owner, Lease>,
}

impl LeaseTable {
    /// A table without leases.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leases addresses to `owner`, IPv4 first. When `owner` holds addresses already, these are
    /// the answer. On an error nothing is leased.
    ///
    /// # Errors
    /// A pool is used up, or an explicit address cannot be given.
    pub fn lease(
        &mut self,
        owner: Owner,
        request: &LeaseRequest<'_>,
        random: RandomSource<'_>,
    ) -> Result<Lease, LeaseError> {
        if let Some(lease) = self.owners.get(&owner) {
            return Ok(*lease);
        }
        let mut seed = candidates::seed(request.user);
        if !request.predictable {
            random(&mut seed);
        }
        let ipv4 = self.choose_ipv4(request, seed, random)?;
        let ipv6 = self.choose_ipv6(request, seed, random)?;
        let lease = Lease {
            ipv4,
            ipv6: ipv6.map(|(address, _)| address),
            ipv6_prefix: ipv6.map_or(0, |(_, prefix)| prefix),
        };
        self.enter(owner, lease);
        Ok(lease)
    }

    /// Gives the addresses of `from` to `to`, which takes over its session. `None` when `from`
    /// holds nothing or `to` holds something already.
    pub fn transfer(&mut self, from: Owner, to: Owner) -> Option<Lease> {
        if from == to {
            return self.owners.get(&to).copied();
        }
        if self.owners.contains_key(&to) {
            return None;
        }
        let lease = self.owners.remove(&from)?;
        self.enter(to, lease);
        Some(lease)
    }

    /// Ends the lease of `owner`, if it holds one.
    pub fn release(&mut self, owner: Owner) {
        let Some(lease) = self.owners.remove(&owner) else {
            return;
        };
        if let Some(address) = lease.ipv4 {
            self.ipv4.remove(&address);
        }
        if let Some(address) = lease.ipv6 {
            self.ipv6.remove(&subnet(address, lease.ipv6_prefix).0);
        }
    }

    /// What `owner` holds.
    pub fn get(&self, owner: Owner) -> Option<Lease> {
        self.owners.get(&owner).copied()
    }

    fn enter(&mut self, owner: Owner, lease: Lease) {
        if let Some(address) = lease.ipv4 {
            self.ipv4.insert(address, owner);
        }
        if let Some(address) = lease.ipv6 {
            let (first, last) = subnet(address, lease.ipv6_prefix);
            self.ipv6.insert(first, (last, owner));
        }
        self.owners.insert(owner, lease);
    }

    /// True when no client holds any address of the network around `address`.
    fn ipv6_is_free(&self, address: Ipv6Addr, prefix: u8) -> bool {
        let (first, last) = subnet(address, prefix);
        self.ipv6
            .range(..=last)
            .next_back()
            .is_none_or(|(_, (other_last, _))| *other_last < first)
    }

    fn choose_ipv4(
        &self,
        request: &LeaseRequest<'_>,
        seed: [u8; 4],
        random: RandomSource<'_>,
    ) -> Result<Option<Ipv4Addr>, LeaseError> {
        if let Some(address) = request.explicit_ipv4 {
            if request.ipv4_pool.is_some_and(|pool| reserved_ipv4(pool, address)) || address.is_unspecified()
            {
                return Err(LeaseError::ExplicitReserved(address.into()));
            }
            if self.ipv4.contains_key(&address) {
                return Err(LeaseError::ExplicitInUse(address.into()));
            }
            return Ok(Some(address));
        }
        let Some(pool) = request.ipv4_pool else {
            return Ok(None);
        };
        let usable = |address: &Ipv4Addr| !reserved_ipv4(pool, *address) && !self.ipv4.contains_key(address);
        if let Some(address) = request
            .previous
            .ipv4
            .filter(|address| pool.contains(address))
            .filter(usable)
        {
            return Ok(Some(address));
        }
        let network = pool.network().to_bits();
        let candidates = candidates::ipv4(network, pool.netmask().to_bits(), seed, random);
        if let Some(address) = candidates.into_iter().map(Ipv4Addr::from).find(usable) {
            return Ok(Some(address));
        }
        let hosts = !pool.netmask().to_bits();
        let mut start = [0; 4];
        random(&mut start);
        let start = u32::from_be_bytes(start);
        (0..=hosts)
            .map(|step| Ipv4Addr::from(network | (start.wrapping_add(step) & hosts)))
            .find(usable)
            .map(Some)
            .ok_or(LeaseError::Ipv4Exhausted(pool))
    }

    fn choose_ipv6(
        &self,
        request: &LeaseRequest<'_>,
        seed: [u8; 4],
        random: RandomSource<'_>,
    ) -> Result<Option<(Ipv6Addr, u8)>, LeaseError> {
        if let Some(address) = request.explicit_ipv6 {
            let prefix = request.ipv6_pool.map_or(128, |pool| pool.subnet_prefix.min(128));
            if request.ipv6_pool.is_some_and(|pool| reserved_ipv6(pool, address)) || address.is_unspecified()
            {
                return Err(LeaseError::ExplicitReserved(address.into()));
            }
            if !self.ipv6_is_free(address, prefix) {
                return Err(LeaseError::ExplicitInUse(address.into()));
            }
            return Ok(Some((address, prefix)));
        }
        let Some(pool) = request.ipv6_pool else {
            return Ok(None);
        };
        let prefix = pool.subnet_prefix.clamp(pool.network.prefix_len(), 128);
        let usable =
            |address: &Ipv6Addr| !reserved_ipv6(pool, *address) && self.ipv6_is_free(*address, prefix);
        if let Some(address) = request
            .previous
            .ipv6
            .filter(|address| pool.network.contains(address))
            .filter(usable)
        {
            return Ok(Some((address, prefix)));
        }
        let network = pool.network.network().to_bits();
        let mask = pool.network.netmask().to_bits();
        let candidates = candidates::ipv6(network, mask, seed, random);
        if let Some(address) = candidates.into_iter().map(Ipv6Addr::from).find(usable) {
            return Ok(Some((address, prefix)));
        }
        let mut start = [0; 16];
        random(&mut start);
        let start = u128::from_be_bytes(start);
        // One step is one client network. At most as many are taken as there are leases, and
        // three are reserved, so the scan is short however large the pool is.
        let step_size = 1u128.checked_shl(u32::from(128 - prefix)).unwrap_or(0);
        let subnets_minus_one = if prefix == pool.network.prefix_len() {
            0
        } else {
            !mask >> (128 - prefix)
        };
        let steps = subnets_minus_one.min(self.ipv6.len() as u128 + 3);
        (0..=steps)
            .map(|step| {
                let host = start.wrapping_add(step.wrapping_mul(step_size)) & !mask;
                Ipv6Addr::from(network | host)
            })
            .find(usable)
            .map(|address| Some((address, prefix)))
            .ok_or(LeaseError::Ipv6Exhausted(pool.network))
    }
}

/// The server's address on every device of an IPv4 pool: the network address with its last bit set.
pub fn server_ipv4(pool: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(pool.network().to_bits() | 1)
}

/// The server's address on every device of an IPv6 pool.
pub fn server_ipv6(pool: Ipv6Net) -> Ipv6Addr {
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
    pool.subnet_prefix > pool.network.prefix_len()
        && subnet(address, pool.subnet_prefix) == subnet(server, pool.subnet_prefix)
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
