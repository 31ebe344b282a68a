use std::collections::HashSet;
use std::time::SystemTime;

use culvert_vocab::{SessionId, UserName};
use proptest::prelude::*;

use super::*;
use crate::ipc::session::SessionSettings;

fn both() -> TunnelWish {
    TunnelWish {
        ipv4: true,
        ipv6: true,
        ..TunnelWish::default()
    }
}

fn only_ipv6() -> TunnelWish {
    TunnelWish {
        ipv6: true,
        ..TunnelWish::default()
    }
}

fn settings() -> SessionSettings {
    SessionSettings {
        predictable_ips: true,
        ipv4_pool: Some("10.99.1.0/24".parse().unwrap()),
        ipv6_pool: Some("fd99::/64".parse().unwrap()),
        ipv6_client_prefix: 128,
        ..SessionSettings::default()
    }
}

fn session(number: u8, user: &str, settings: SessionSettings) -> VerifiedSession {
    VerifiedSession {
        id: SessionId::from_bytes([number; 32]).safe_id(),
        user: UserName::new(user).unwrap(),
        group: None,
        host: "default".into(),
        authenticated_at: SystemTime::UNIX_EPOCH,
        session_left: None,
        previous: Addresses::default(),
        accounted: false,
        report: None,
        settings,
    }
}

fn v4(addresses: &Addresses) -> Option<Ipv4Addr> {
    addresses.ipv4.map(|v4| v4.address)
}

fn v6(addresses: &Addresses) -> Option<Ipv6Addr> {
    addresses.ipv6.map(|v6| v6.address)
}

/// Deterministic, so that failures repeat.
fn pseudo_random() -> impl FnMut(&mut [u8]) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    move |bytes| {
        for byte in bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
    }
}

#[test]
fn the_first_lease_is_the_predictable_one() {
    let mut table = LeaseTable::new();
    let first = session(1, "test", settings());
    let addresses = table.assign(&first, &both(), &mut pseudo_random()).unwrap();
    assert_eq!(
        addresses,
        Addresses {
            ipv4: Some(AddressV4 {
                address: "10.99.1.190".parse().unwrap(),
                netmask: Some("255.255.255.0".parse().unwrap()),
            }),
            ipv4_local: Some("10.99.1.1".parse().unwrap()),
            ipv6: Some(AddressV6 {
                address: "fd99::1950:2c2b:bd9d:6cef".parse().unwrap(),
                prefix_len: 128
            }),
            ipv6_local: Some("fd99::1".parse().unwrap()),
        }
    );
    let second = table
        .assign(&session(2, "test", settings()), &both(), &mut pseudo_random())
        .unwrap();
    assert_ne!(v4(&second), v4(&addresses));
    assert_ne!(v6(&second), v6(&addresses));
}

#[test]
fn unpredictable_addresses_come_from_the_random_source() {
    let mut table = LeaseTable::new();
    let unpredictable = session(
        1,
        "test",
        SessionSettings {
            predictable_ips: false,
            ..settings()
        },
    );
    let addresses = table
        .assign(&unpredictable, &both(), &mut |bytes: &mut [u8]| bytes.fill(7))
        .unwrap();
    assert_eq!(v4(&addresses), Some("10.99.1.7".parse().unwrap()));
}

#[test]
fn families_follow_wish_and_pools() {
    let mut table = LeaseTable::new();
    let addresses = table
        .assign(
            &session(1, "test", settings()),
            &only_ipv6(),
            &mut pseudo_random(),
        )
        .unwrap();
    assert!(addresses.ipv4.is_none() && addresses.ipv4_local.is_none() && addresses.ipv6.is_some());
    let no_pool = SessionSettings {
        ipv6_pool: None,
        explicit_ipv6: Some("fd00::7".parse().unwrap()),
        ..settings()
    };
    let addresses = table
        .assign(&session(2, "test", no_pool), &both(), &mut pseudo_random())
        .unwrap();
    assert!(addresses.ipv4.is_some() && addresses.ipv6.is_none());
    let again = table
        .assign(&session(1, "test", settings()), &both(), &mut pseudo_random())
        .unwrap();
    assert!(again.ipv4.is_some(), "a later connection may want more");
}

#[test]
fn a_pool_is_used_to_its_last_address() {
    let mut table = LeaseTable::new();
    let small = SessionSettings {
        ipv4_pool: Some("10.0.0.0/28".parse().unwrap()),
        ipv6_pool: Some("fd99::/124".parse().unwrap()),
        ..settings()
    };
    let mut random = pseudo_random();
    let mut seen = HashSet::new();
    // 16 addresses without network, broadcast and server.
    for number in 0..13 {
        let addresses = table
            .assign(&session(number, "u", small.clone()), &both(), &mut random)
            .unwrap();
        assert!(seen.insert(v4(&addresses)), "{addresses:?}");
        assert!(addresses.ipv6.is_some());
    }
    let last = session(99, "u", small.clone());
    assert_eq!(
        table.assign(&last, &both(), &mut random),
        Err(LeaseError::Ipv4Exhausted("10.0.0.0/28".parse().unwrap()))
    );
    table
        .assign(&session(98, "u", small), &only_ipv6(), &mut random)
        .unwrap();
    assert_eq!(
        table.assign(&last, &only_ipv6(), &mut random),
        Err(LeaseError::Ipv6Exhausted("fd99::/124".parse().unwrap()))
    );
    table.release(&SessionId::from_bytes([5; 32]).safe_id());
    table.assign(&last, &both(), &mut random).unwrap();
}

#[test]
fn tiny_pools_have_nothing_to_give() {
    for pool in ["10.0.0.0/32", "10.0.0.0/31"] {
        let tiny = SessionSettings {
            ipv4_pool: Some(pool.parse().unwrap()),
            ..settings()
        };
        assert!(
            LeaseTable::new()
                .assign(&session(1, "u", tiny), &both(), &mut pseudo_random())
                .is_err(),
            "{pool}"
        );
    }
    for (pool, prefix) in [("fd99::/128", 128), ("fd99::/127", 128), ("::/0", 1)] {
        let tiny = SessionSettings {
            ipv6_pool: Some(pool.parse().unwrap()),
            ipv6_client_prefix: prefix,
            ..settings()
        };
        let mut table = LeaseTable::new();
        let results: Vec<_> = (0..2)
            .map(|n| table.assign(&session(n, "u", tiny.clone()), &only_ipv6(), &mut pseudo_random()))
            .collect();
        assert!(results[1].is_err(), "{pool}: {results:?}");
    }
}

#[test]
fn clients_with_ipv6_networks_of_their_own() {
    let mut table = LeaseTable::new();
    let nets = SessionSettings {
        ipv6_pool: Some("fd99::/60".parse().unwrap()),
        ipv6_client_prefix: 64,
        ..settings()
    };
    let mut random = pseudo_random();
    let mut seen = HashSet::new();
    // 16 networks, one of which contains the server.
    for number in 0..15 {
        let addresses = table
            .assign(&session(number, "test", nets.clone()), &only_ipv6(), &mut random)
            .unwrap();
        let address = addresses.ipv6.unwrap();
        assert_eq!(address.prefix_len, 64);
        let (first, _) = subnet(address.address, 64);
        assert_ne!(first, "fd99::".parse::<Ipv6Addr>().unwrap());
        assert!(seen.insert(first));
    }
    assert!(
        table
            .assign(&session(20, "test", nets), &only_ipv6(), &mut random)
            .is_err()
    );
    let inside: Ipv6Addr = "fd99:0:0:3::5".parse().unwrap();
    let explicit = SessionSettings {
        explicit_ipv6: Some(inside),
        ..settings()
    };
    assert_eq!(
        table.assign(&session(21, "test", explicit), &only_ipv6(), &mut random),
        Err(LeaseError::ExplicitInUse(inside.into())),
        "an address inside somebody's network is taken"
    );
}

#[test]
fn explicit_addresses_have_one_owner() {
    let mut table = LeaseTable::new();
    let explicit = SessionSettings {
        explicit_ipv4: Some("10.5.1.7".parse().unwrap()),
        explicit_ipv6: Some("fd00::7".parse().unwrap()),
        ..settings()
    };
    let addresses = table
        .assign(
            &session(1, "alice", explicit.clone()),
            &both(),
            &mut pseudo_random(),
        )
        .unwrap();
    assert_eq!(v4(&addresses), explicit.explicit_ipv4, "also outside the pool");
    assert_eq!(
        table.assign(
            &session(2, "bob", explicit.clone()),
            &both(),
            &mut pseudo_random()
        ),
        Err(LeaseError::ExplicitInUse("10.5.1.7".parse().unwrap()))
    );
    for reserved in ["10.99.1.0", "10.99.1.1", "10.99.1.255"] {
        let bad = SessionSettings {
            explicit_ipv4: Some(reserved.parse().unwrap()),
            ..settings()
        };
        assert_eq!(
            table.assign(&session(3, "alice", bad), &both(), &mut pseudo_random()),
            Err(LeaseError::ExplicitReserved(reserved.parse().unwrap()))
        );
    }
    let half = SessionSettings {
        explicit_ipv4: None,
        ..explicit
    };
    assert!(
        table
            .assign(&session(4, "alice", half), &both(), &mut pseudo_random())
            .is_err()
    );
    assert_eq!(
        (table.ipv4.len(), table.sessions.len()),
        (1, 1),
        "an error leases nothing"
    );
}

#[test]
fn a_session_that_comes_back_keeps_its_addresses() {
    let mut table = LeaseTable::new();
    let mut random = pseudo_random();
    let mut roaming = session(
        1,
        "test",
        SessionSettings {
            predictable_ips: false,
            ..settings()
        },
    );
    let addresses = table.assign(&roaming, &both(), &mut random).unwrap();
    assert_eq!(
        table.assign(&roaming, &both(), &mut random),
        Ok(addresses),
        "while the old connection lives"
    );
    table.release(&roaming.id);
    roaming.previous = addresses;
    assert_eq!(
        table.assign(&roaming, &both(), &mut random),
        Ok(addresses),
        "after a pause"
    );
    let thief = VerifiedSession {
        id: SessionId::from_bytes([2; 32]).safe_id(),
        ..roaming
    };
    let other = table.assign(&thief, &both(), &mut random).unwrap();
    assert_ne!(v4(&other), v4(&addresses), "unless somebody has them");
}

#[derive(Debug, Clone)]
enum Step {
    Assign {
        number: u8,
        predictable: bool,
        explicit: Option<u8>,
        prefix: u8,
        ipv4: bool,
    },
    Release(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let assign = (
        0u8..16,
        any::<bool>(),
        proptest::option::of(0u8..16),
        122u8..=128,
        any::<bool>(),
    )
        .prop_map(|(number, predictable, explicit, prefix, ipv4)| Step::Assign {
            number,
            predictable,
            explicit,
            prefix,
            ipv4,
        });
    proptest::collection::vec(
        prop_oneof![3 => assign, 1 => (0u8..16).prop_map(Step::Release)],
        0..80,
    )
}

proptest! {
    /// Whatever happens, no address has two owners, no reserved one is given, and the index
    /// agrees with what the sessions hold.
    #[test]
    fn no_address_has_two_owners(steps in steps()) {
        let mut table = LeaseTable::new();
        let mut random = pseudo_random();
        let pool: Ipv4Net = "10.0.0.0/28".parse().unwrap();
        for step in steps {
            match step {
                Step::Assign { number, predictable, explicit, prefix, ipv4 } => {
                    let wanted = SessionSettings {
                        predictable_ips: predictable,
                        ipv4_pool: Some(pool),
                        ipv6_pool: Some("fd99::/120".parse().unwrap()),
                        ipv6_client_prefix: prefix,
                        explicit_ipv4: explicit.map(|host| Ipv4Addr::new(10, 0, 0, host)),
                        ..SessionSettings::default()
                    };
                    let wanted = session(number, "somebody", wanted);
                    let before = table.sessions.get(&wanted.id).copied();
                    let wish = TunnelWish { ipv4, ..both() };
                    match table.assign(&wanted, &wish, &mut random) {
                        Ok(addresses) => {
                            let held = table.sessions.get(&wanted.id).copied().unwrap_or_default();
                            prop_assert_eq!(v6(&addresses), held.ipv6.map(|(address, _)| address));
                            prop_assert!(!ipv4 || v4(&addresses) == held.ipv4);
                        }
                        Err(_) => prop_assert_eq!(table.sessions.get(&wanted.id).copied(), before),
                    }
                }
                Step::Release(number) => table.release(&SessionId::from_bytes([number; 32]).safe_id()),
            }
            let held: Vec<Ipv4Addr> = table.sessions.values().filter_map(|lease| lease.ipv4).collect();
            let distinct: HashSet<_> = held.iter().collect();
            prop_assert_eq!(held.len(), distinct.len());
            prop_assert_eq!(held.len(), table.ipv4.len());
            prop_assert!(held.iter().all(|address| !reserved_ipv4(pool, *address)));
            let mut nets: Vec<_> =
                table.sessions.values().filter_map(|lease| lease.ipv6).map(|(a, prefix)| subnet(a, prefix)).collect();
            nets.sort();
            prop_assert_eq!(nets.len(), table.ipv6.len());
            prop_assert!(nets.windows(2).all(|pair| pair[0].1 < pair[1].0), "networks overlap");
        }
    }
}
