//! The ban table: addresses collect points for what they do, and are refused for a while when
//! they have too many (`specs/server-auth.md` §5).
//!
//! Pure arithmetic over an injected monotonic `now`. IPv4 addresses stand for themselves, IPv6
//! addresses for their /64. The table holds a bounded number of addresses.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipnet::IpNet;

/// Most addresses remembered at once; beyond it the least interesting quarter is forgotten.
const CAPACITY: usize = 65_536;

/// When an address is banned and for how long; the `ban-*` options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BanPolicy {
    /// Score at which an address is banned; 0 switches bans off (`max-ban-score`).
    pub(crate) max_score: u32,
    /// Length of a ban (`ban-time`).
    pub(crate) ban_time: Duration,
    /// Points of an address that is not banned are forgotten this long after its last reset
    /// (`ban-reset-time`).
    pub(crate) reset_time: Duration,
}

/// What became of an address that got points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Score after the points were added.
    pub(crate) score: u32,
    /// The address is banned at this moment.
    pub(crate) banned: bool,
    /// These very points made it banned.
    pub(crate) newly_banned: bool,
}

/// One line of the ban list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BanEntry {
    /// IPv4 address, or the first address of an IPv6 /64.
    pub(crate) address: IpAddr,
    /// Points collected.
    pub(crate) score: u32,
    /// When the ban ends, or the points of an address that is not banned stop counting as recent.
    pub(crate) expires: Instant,
    /// The address is banned at this moment.
    pub(crate) banned: bool,
}

/// Scores of addresses.
#[derive(Debug)]
pub(crate) struct BanTable {
    policy: BanPolicy,
    local: Vec<IpNet>,
    entries: HashMap<IpAddr, Score>,
    capacity: usize,
}

#[derive(Debug, Clone, Copy)]
struct Score {
    points: u32,
    last_reset: Instant,
    expires: Instant,
}

impl BanTable {
    /// An empty table. `local` are the subnets of the host's own interfaces, whose addresses are
    /// never refused.
    pub(crate) fn new(policy: BanPolicy, local: Vec<IpNet>) -> Self {
        Self {
            policy,
            local,
            entries: HashMap::new(),
            capacity: CAPACITY,
        }
    }

    /// Follows a reloaded configuration; scores stay.
    pub(crate) fn set_policy(&mut self, policy: BanPolicy) {
        self.policy = policy;
    }

    /// A client connected. Local addresses get no points and are never refused.
    pub(crate) fn connection(&mut self, address: IpAddr, points: u32, now: Instant) -> Verdict {
        if self.is_local(address) {
            let score = self.entries.get(&source(address)).map_or(0, |entry| entry.points);
            return Verdict {
                score,
                banned: false,
                newly_banned: false,
            };
        }
        self.add(address, points, now)
    }

    /// A client did something wrong, for instance gave a wrong password. Local addresses get
    /// points too, for the lists, but are not banned.
    pub(crate) fn misbehaviour(&mut self, address: IpAddr, points: u32, now: Instant) -> Verdict {
        let verdict = self.add(address, points, now);
        if self.is_local(address) {
            return Verdict {
                banned: false,
                newly_banned: false,
                ..verdict
            };
        }
        verdict
    }

    /// Ends a ban and forgets the points. False when the address is not in the table.
    pub(crate) fn unban(&mut self, address: IpAddr, now: Instant) -> bool {
        match self.entries.get_mut(&source(address)) {
            Some(entry) => {
                *entry = Score {
                    points: 0,
                    last_reset: now,
                    expires: now,
                };
                true
            }
            None => false,
        }
    }

    /// All addresses with points, in address order.
    pub(crate) fn list(&self, now: Instant) -> Vec<BanEntry> {
        let mut list: Vec<BanEntry> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.points > 0)
            .map(|(&address, entry)| BanEntry {
                address,
                score: entry.points,
                expires: entry.expires,
                banned: !self.is_local(address) && self.banned(entry, now),
            })
            .collect();
        list.sort_by_key(|entry| entry.address);
        list
    }

    /// Number of addresses that are banned at this moment.
    pub(crate) fn banned_count(&self, now: Instant) -> usize {
        self.entries
            .iter()
            .filter(|&(&address, entry)| self.banned(entry, now) && !self.is_local(address))
            .count()
    }

    /// Forgets addresses whose points no longer matter. Call it now and then (ocserv: every 900 s).
    pub(crate) fn expire(&mut self, now: Instant) {
        let reset_time = self.policy.reset_time;
        self.entries
            .retain(|_, entry| now <= entry.expires || now <= entry.last_reset + reset_time);
    }

    fn add(&mut self, address: IpAddr, points: u32, now: Instant) -> Verdict {
        let policy = self.policy;
        if policy.max_score == 0 {
            return Verdict {
                score: 0,
                banned: false,
                newly_banned: false,
            };
        }
        let address = source(address);
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&address) {
            self.make_room(now);
        }
        let entry = self.entries.entry(address).or_insert(Score {
            points: 0,
            last_reset: now,
            expires: now,
        });
        let over = if entry.points >= policy.max_score {
            now > entry.expires
        } else {
            now > entry.last_reset + policy.reset_time
        };
        if over {
            entry.points = 0;
            entry.last_reset = now;
        }
        let was_below = entry.points < policy.max_score;
        if was_below {
            entry.expires = now + policy.ban_time;
        }
        entry.points = entry.points.saturating_add(points);
        let banned = entry.points >= policy.max_score && now <= entry.expires;
        Verdict {
            score: entry.points,
            banned,
            newly_banned: banned && was_below,
        }
    }

    fn banned(&self, entry: &Score, now: Instant) -> bool {
        let max = self.policy.max_score;
        max > 0 && entry.points >= max && now <= entry.expires
    }

    /// True for an address of the host's own subnets, which is never banned.
    pub(crate) fn is_local(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.local.iter().any(|net| net.contains(&address))
    }

    /// Drops what is over, and if that is not enough the quarter with the fewest points, the
    /// oldest first: somebody who owns many addresses cannot push bans out with single points.
    fn make_room(&mut self, now: Instant) {
        self.expire(now);
        let excess = self.entries.len().saturating_sub(self.capacity / 4 * 3);
        if excess == 0 || self.entries.len() < self.capacity {
            return;
        }
        let mut ranked: Vec<_> = self
            .entries
            .iter()
            .map(|(&address, entry)| (entry.points, entry.expires, address))
            .collect();
        ranked.select_nth_unstable(excess - 1);
        for (_, _, address) in ranked.iter().take(excess) {
            self.entries.remove(address);
        }
    }
}

/// The address that stands for a source: IPv4 (also when mapped into IPv6) as it is, IPv6 by /64.
pub(crate) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: BanPolicy = BanPolicy {
        max_score: 25,
        ban_time: Duration::from_secs(300),
        reset_time: Duration::from_secs(1200),
    };
    const CONNECT: u32 = 1;
    const WRONG_PASSWORD: u32 = 10;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn table() -> BanTable {
        BanTable::new(
            POLICY,
            vec!["127.0.0.0/8".parse().unwrap(), "192.0.2.1/24".parse().unwrap()],
        )
    }

    impl BanTable {
        /// True when connections from `address` are refused at this moment.
        fn is_banned(&self, address: IpAddr, now: Instant) -> bool {
            !self.is_local(address)
                && self
                    .entries
                    .get(&source(address))
                    .is_some_and(|entry| self.banned(entry, now))
        }
    }

    /// `vectors/server-auth/ban-trace.txt`: one connection and three wrong passwords are 31.
    #[test]
    fn trace_of_three_wrong_passwords() {
        let (mut bans, now) = (
            BanTable::new(
                BanPolicy {
                    max_score: 80,
                    ..POLICY
                },
                Vec::new(),
            ),
            Instant::now(),
        );
        let peer = ip("198.51.100.7");
        assert_eq!(bans.connection(peer, CONNECT, now).score, 1);
        for score in [11, 21, 31] {
            assert_eq!(bans.misbehaviour(peer, WRONG_PASSWORD, now).score, score);
        }
        assert!(!bans.is_banned(peer, now));
    }

    /// `vectors/server-auth/ban-trace.txt`: banned at 33 of 25; a further connection makes 34 and
    /// does not move the end of the ban.
    #[test]
    fn trace_of_a_ban() {
        let (mut bans, start) = (table(), Instant::now());
        let peer = ip("198.51.100.7");
        for _ in 0..3 {
            bans.connection(peer, CONNECT, start);
        }
        bans.misbehaviour(peer, WRONG_PASSWORD, start);
        bans.misbehaviour(peer, WRONG_PASSWORD, start);
        let verdict = bans.misbehaviour(peer, WRONG_PASSWORD, start);
        assert_eq!(
            verdict,
            Verdict {
                score: 33,
                banned: true,
                newly_banned: true
            }
        );

        let later = start + Duration::from_secs(200);
        let again = bans.connection(peer, CONNECT, later);
        assert_eq!(
            again,
            Verdict {
                score: 34,
                banned: true,
                newly_banned: false
            }
        );
        assert!(bans.is_banned(peer, start + POLICY.ban_time));
        let over = start + POLICY.ban_time + Duration::from_secs(1);
        assert!(!bans.is_banned(peer, over));
        assert_eq!(
            bans.connection(peer, CONNECT, over).score,
            1,
            "a ban that is over starts from nothing"
        );
    }

    /// `vectors/server-auth/ban-trace.txt`: hosts of one /64 share an entry, other /64s do not.
    #[test]
    fn ipv6_hosts_share_a_64() {
        let (mut bans, now) = (table(), Instant::now());
        bans.connection(ip("2001:db8:9:9::1"), CONNECT, now);
        assert_eq!(bans.connection(ip("2001:db8:9:9::2"), CONNECT, now).score, 2);
        assert_eq!(bans.connection(ip("2001:db8:9:8::1"), CONNECT, now).score, 1);
        let keys: Vec<_> = bans.list(now).iter().map(|entry| entry.address).collect();
        assert_eq!(keys, [ip("2001:db8:9:8::"), ip("2001:db8:9:9::")]);
        assert!(bans.unban(ip("2001:db8:9:9::77"), now));
        assert_eq!(bans.list(now).len(), 1);
    }

    #[test]
    fn mapped_ipv4_is_ipv4() {
        let (mut bans, now) = (table(), Instant::now());
        bans.connection(ip("::ffff:198.51.100.7"), CONNECT, now);
        assert_eq!(bans.connection(ip("198.51.100.7"), CONNECT, now).score, 2);
        assert!(
            !bans.connection(ip("::ffff:127.0.0.1"), 100, now).banned,
            "local also when mapped"
        );
    }

    #[test]
    fn local_addresses_are_listed_but_never_refused() {
        let (mut bans, now) = (table(), Instant::now());
        let local = ip("192.0.2.55");
        assert_eq!(bans.connection(local, CONNECT, now).score, 0);
        assert!(!bans.misbehaviour(local, 100, now).banned);
        assert!(!bans.is_banned(local, now));
        assert_eq!(bans.banned_count(now), 0);
        assert_eq!(
            bans.list(now).first().map(|entry| (entry.score, entry.banned)),
            Some((100, false))
        );
    }

    #[test]
    fn unban_forgets_the_points_and_knows_strangers() {
        let (mut bans, now) = (table(), Instant::now());
        let peer = ip("198.51.100.7");
        assert!(!bans.unban(peer, now));
        bans.misbehaviour(peer, 100, now);
        assert_eq!(bans.banned_count(now), 1);
        assert!(bans.unban(peer, now));
        assert!(!bans.is_banned(peer, now));
        assert_eq!(bans.connection(peer, CONNECT, now).score, 1);
    }

    #[test]
    fn points_are_forgotten_after_the_reset_time() {
        let (mut bans, start) = (table(), Instant::now());
        let peer = ip("198.51.100.7");
        bans.misbehaviour(peer, WRONG_PASSWORD, start);
        let at_reset = start + POLICY.reset_time;
        assert_eq!(bans.connection(peer, CONNECT, at_reset).score, 11);
        assert_eq!(
            bans.connection(peer, CONNECT, at_reset + Duration::from_secs(1))
                .score,
            1
        );
        bans.expire(at_reset + Duration::from_secs(2));
        assert_eq!(bans.list(at_reset).len(), 1, "still inside the reset time");
        bans.expire(at_reset + POLICY.reset_time * 2);
        assert!(bans.list(at_reset).is_empty());
    }

    #[test]
    fn off_means_off() {
        let (mut bans, now) = (
            BanTable::new(
                BanPolicy {
                    max_score: 0,
                    ..POLICY
                },
                Vec::new(),
            ),
            Instant::now(),
        );
        assert!(!bans.misbehaviour(ip("198.51.100.7"), u32::MAX, now).banned);
        assert!(bans.list(now).is_empty());
    }

    #[test]
    fn a_flood_of_addresses_does_not_free_a_banned_one() {
        let (mut bans, now) = (table(), Instant::now());
        bans.capacity = 64;
        let banned = ip("198.51.100.7");
        bans.misbehaviour(banned, 100, now);
        for host in 0..10_000u32 {
            bans.connection(IpAddr::from((0x0a00_0000 + host).to_be_bytes()), CONNECT, now);
            assert!(bans.entries.len() <= 64);
        }
        assert!(bans.is_banned(banned, now));
    }

    proptest! {
        /// A ban ends at most `ban-time` after it began, whatever happens meanwhile, and the
        /// score never goes down while it lasts.
        #[test]
        fn every_ban_ends(steps in proptest::collection::vec((0u64..400, 0u32..30), 1..60)) {
            let mut bans = table();
            let peer = ip("203.0.113.9");
            let mut now = Instant::now();
            let mut banned_since: Option<Instant> = None;
            let mut score = 0;
            for (wait, points) in steps {
                now += Duration::from_secs(wait);
                let verdict = bans.misbehaviour(peer, points, now);
                prop_assert_eq!(verdict.banned, bans.is_banned(peer, now));
                match banned_since {
                    Some(since) if verdict.banned && !verdict.newly_banned => {
                        prop_assert!(now <= since + POLICY.ban_time);
                        prop_assert!(verdict.score >= score);
                    }
                    _ => banned_since = verdict.banned.then_some(now),
                }
                prop_assert_eq!(verdict.newly_banned && verdict.banned, verdict.newly_banned);
                prop_assert!(!verdict.banned || verdict.score >= POLICY.max_score);
                score = verdict.score;
            }
            prop_assert!(!bans.is_banned(peer, now + POLICY.ban_time + Duration::from_secs(1)));
        }

        /// Fewer points than the limit within one reset period never ban.
        #[test]
        fn below_the_limit_nobody_is_banned(points in proptest::collection::vec(0u32..3, 0..12)) {
            let mut bans = table();
            let now = Instant::now();
            let total: u32 = points.iter().sum();
            for p in points {
                bans.misbehaviour(ip("203.0.113.9"), p, now);
            }
            prop_assert_eq!(bans.is_banned(ip("203.0.113.9"), now), total >= POLICY.max_score);
        }
    }
}
