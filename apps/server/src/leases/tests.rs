use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn request(user: &str) -> LeaseRequest<'_> {
    LeaseRequest {
        user,
        predictable: true,
        ipv4_pool: Some("10.99.1.0/24".parse().unwrap()),
        ipv6_pool: Some(Ipv6Pool {
            network: "fd99::/64".parse().unwrap(),
            subnet_prefix: 128,
        }),
        explicit_ipv4: None,
        explicit_ipv6: None,
        previous: Lease::default(),
    }
}

/// Deterministic, so that failures repeat.
fn counting() -> impl FnMut(&mut [u8]) {
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
    let lease = table.lease(1, &request("test"), &mut counting()).unwrap();
    assert_eq!(lease.ipv4, Some("10.99.1.190".parse().unwrap()));
    assert_eq!(lease.ipv6, Some("fd99::1950:2c2b:bd9d:6cef".parse().unwrap()));
    assert_eq!(lease.ipv6_prefix, 128);
    let second = table.lease(2, &request("test"), &mut counting()).unwrap();
    assert_ne!(second.ipv4, lease.ipv4);
    assert_ne!(second.ipv6, lease.ipv6);
    assert_eq!(
        table.lease(1, &request("test"), &mut counting()),
        Ok(lease),
        "asking again changes nothing"
    );
}

#[test]
fn unpredictable_addresses_come_from_the_random_source() {
    let mut table = LeaseTable::new();
    let unpredictable = LeaseRequest {
        predictable: false,
        ..request("test")
    };
    let lease = table
        .lease(1, &unpredictable, &mut |bytes: &mut [u8]| bytes.fill(7))
        .unwrap();
    assert_eq!(lease.ipv4, Some("10.99.1.7".parse().unwrap()));
}

#[test]
fn a_pool_is_used_to_its_last_address() {
    let mut table = LeaseTable::new();
    let small = LeaseRequest {
        ipv4_pool: Some("10.0.0.0/28".parse().unwrap()),
        ipv6_pool: Some(Ipv6Pool {
            network: "fd99::/124".parse().unwrap(),
            subnet_prefix: 128,
        }),
        ..request("somebody")
    };
    let mut random = counting();
    let mut seen = HashSet::new();
    // 16 addresses without network, broadcast and server.
    for owner in 0..13 {
        let lease = table.lease(owner, &small, &mut random).unwrap();
        assert!(seen.insert(lease.ipv4), "{lease:?}");
        assert!(lease.ipv6.is_some());
    }
    assert_eq!(
        table.lease(99, &small, &mut random),
        Err(LeaseError::Ipv4Exhausted("10.0.0.0/28".parse().unwrap()))
    );
    let only6 = LeaseRequest {
        ipv4_pool: None,
        ..small
    };
    table.lease(98, &only6, &mut random).unwrap();
    assert_eq!(
        table.lease(99, &only6, &mut random),
        Err(LeaseError::Ipv6Exhausted("fd99::/124".parse().unwrap()))
    );
    table.release(5);
    table.lease(99, &small, &mut random).unwrap();
}

#[test]
fn tiny_pools_have_nothing_to_give() {
    for pool in ["10.0.0.0/32", "10.0.0.0/31"] {
        let one = LeaseRequest {
            ipv4_pool: Some(pool.parse().unwrap()),
            ipv6_pool: None,
            ..request("u")
        };
        assert!(
            LeaseTable::new().lease(1, &one, &mut counting()).is_err(),
            "{pool}"
        );
    }
    let tiny = Ipv6Pool {
        network: "fd99::/128".parse().unwrap(),
        subnet_prefix: 128,
    };
    let one = LeaseRequest {
        ipv4_pool: None,
        ipv6_pool: Some(tiny),
        ..request("u")
    };
    assert!(LeaseTable::new().lease(1, &one, &mut counting()).is_err());
}

#[test]
fn clients_with_ipv6_networks_of_their_own() {
    let mut table = LeaseTable::new();
    let pool = Ipv6Pool {
        network: "fd99::/60".parse().unwrap(),
        subnet_prefix: 64,
    };
    let nets = LeaseRequest {
        ipv4_pool: None,
        ipv6_pool: Some(pool),
        ..request("test")
    };
    let mut random = counting();
    let mut seen = HashSet::new();
    // 16 networks, one of which contains the server.
    for owner in 0..15 {
        let lease = table.lease(owner, &nets, &mut random).unwrap();
        assert_eq!(lease.ipv6_prefix, 64);
        let (first, _) = subnet(lease.ipv6.unwrap(), 64);
        assert_ne!(first, "fd99::".parse::<Ipv6Addr>().unwrap());
        assert!(seen.insert(first));
    }
    assert!(table.lease(20, &nets, &mut random).is_err());
    let inside = LeaseRequest {
        ipv6_pool: None,
        explicit_ipv6: Some("fd99:0:0:3::5".parse().unwrap()),
        ..nets
    };
    assert_eq!(
        table.lease(21, &inside, &mut random),
        Err(LeaseError::ExplicitInUse("fd99:0:0:3::5".parse().unwrap())),
        "an address inside somebody's network is taken"
    );
}

#[test]
fn explicit_addresses_have_one_owner() {
    let mut table = LeaseTable::new();
    let explicit = LeaseRequest {
        explicit_ipv4: Some("10.99.1.7".parse().unwrap()),
        explicit_ipv6: Some("fd00::7".parse().unwrap()),
        ..request("alice")
    };
    let lease = table.lease(1, &explicit, &mut counting()).unwrap();
    assert_eq!(lease.ipv4, Some("10.99.1.7".parse().unwrap()));
    assert_eq!(
        table.lease(2, &explicit, &mut counting()),
        Err(LeaseError::ExplicitInUse("10.99.1.7".parse().unwrap()))
    );
    for reserved in ["10.99.1.0", "10.99.1.1", "10.99.1.255"] {
        let bad = LeaseRequest {
            explicit_ipv4: Some(reserved.parse().unwrap()),
            ..request("alice")
        };
        assert_eq!(
            table.lease(3, &bad, &mut counting()),
            Err(LeaseError::ExplicitReserved(reserved.parse().unwrap()))
        );
    }
    let half = LeaseRequest {
        explicit_ipv4: None,
        ..explicit
    };
    assert!(table.lease(4, &half, &mut counting()).is_err());
    assert_eq!(table.get(4), None, "an error leases nothing");
    assert_eq!(table.ipv4.len(), 1);
}

#[test]
fn a_session_that_comes_back_keeps_its_addresses() {
    let mut table = LeaseTable::new();
    let unpredictable = LeaseRequest {
        predictable: false,
        ..request("test")
    };
    let mut random = counting();
    let lease = table.lease(1, &unpredictable, &mut random).unwrap();
    assert_eq!(
        table.transfer(1, 2),
        Some(lease),
        "from the connection that it replaces"
    );
    assert_eq!(table.get(1), None);
    table.release(1);
    assert_eq!(
        table.get(2),
        Some(lease),
        "the end of the old connection takes nothing away"
    );
    table.release(2);
    let back = LeaseRequest {
        previous: lease,
        ..unpredictable
    };
    assert_eq!(table.lease(3, &back, &mut random), Ok(lease), "after a pause");
    let other = table.lease(4, &back, &mut random).unwrap();
    assert_ne!(other.ipv4, lease.ipv4, "unless somebody has them");
    assert_eq!(table.transfer(3, 4), None, "nobody gets two leases");
    assert_eq!(table.transfer(77, 78), None);
}

#[derive(Debug, Clone)]
enum Step {
    Lease {
        owner: Owner,
        user: u8,
        predictable: bool,
        explicit: Option<u8>,
        prefix: u8,
    },
    Transfer(Owner, Owner),
    Release(Owner),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let owner = 0u64..12;
    let lease = (
        owner.clone(),
        0u8..4,
        any::<bool>(),
        proptest::option::of(0u8..16),
        122u8..=128,
    )
        .prop_map(|(owner, user, predictable, explicit, prefix)| Step::Lease {
            owner,
            user,
            predictable,
            explicit,
            prefix,
        });
    let step = prop_oneof![
        3 => lease,
        1 => (owner.clone(), owner.clone()).prop_map(|(from, to)| Step::Transfer(from, to)),
        1 => owner.prop_map(Step::Release),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    /// Whatever happens, no address has two owners, no reserved one is given, and the index
    /// agrees with what the owners hold.
    #[test]
    fn no_address_has_two_owners(steps in steps()) {
        let mut table = LeaseTable::new();
        let mut random = counting();
        let pool: Ipv4Net = "10.0.0.0/28".parse().unwrap();
        for step in steps {
            match step {
                Step::Lease { owner, user, predictable, explicit, prefix } => {
                    let user = format!("user{user}");
                    let wanted = LeaseRequest {
                        predictable,
                        ipv4_pool: Some(pool),
                        ipv6_pool: Some(Ipv6Pool { network: "fd99::/120".parse().unwrap(), subnet_prefix: prefix }),
                        explicit_ipv4: explicit.map(|host| Ipv4Addr::new(10, 0, 0, host)),
                        ..request(&user)
                    };
                    let before = table.get(owner);
                    if table.lease(owner, &wanted, &mut random).is_err() {
                        prop_assert_eq!(table.get(owner), before);
                    }
                }
                Step::Transfer(from, to) => {
                    table.transfer(from, to);
                }
                Step::Release(owner) => table.release(owner),
            }
            let held: Vec<Ipv4Addr> = table.owners.values().filter_map(|lease| lease.ipv4).collect();
            let distinct: HashSet<_> = held.iter().collect();
            prop_assert_eq!(held.len(), distinct.len());
            prop_assert_eq!(held.len(), table.ipv4.len());
            prop_assert!(held.iter().all(|address| !reserved_ipv4(pool, *address)));
            let mut nets: Vec<_> = table
                .owners
                .values()
                .filter_map(|lease| lease.ipv6.map(|address| subnet(address, lease.ipv6_prefix)))
                .collect();
            nets.sort();
            prop_assert_eq!(nets.len(), table.ipv6.len());
            prop_assert!(nets.windows(2).all(|pair| pair[0].1 < pair[1].0), "networks overlap");
        }
    }
}
