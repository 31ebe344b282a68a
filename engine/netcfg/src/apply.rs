//! Changes of the host's network, each written down before it is made. Everything here may be
//! done again, after a reconnect or a change of the host's network: what is in place already stays
//! untouched, so that this is no change of the network in its turn.

use std::collections::HashSet;

use ipnet::IpNet;

use crate::journal::{self, BypassRoute, Change, DeviceId, Journal, Record};
use crate::netlink::{self, Added, Netlink};
use crate::plan::{Plan, TunnelRoute};
use crate::{Error, chain, dns};

/// Configures the tunnel's device, the routes and the resolver as `plan` says; `obsolete` is what an
/// earlier plan routed into the tunnel and this one does not. Returns what did not work although the
/// tunnel works without it, one line each.
pub(crate) fn apply(
    journal: &mut Journal,
    plan: &Plan,
    obsolete: &[TunnelRoute],
) -> Result<Vec<String>, Error> {
    let (device, mut warnings) = {
        let _lock = journal::lock(&journal.record().paths.state_dir);
        netlink::block_on(links(journal, plan, obsolete))?
    };
    if let Some(plan) = &plan.dns
        && let Err(error) = dns::apply(&device, plan, journal)
    {
        warnings.push(chain(&error));
    }
    Ok(warnings)
}

/// Sees to it that packets to `nets` go the way they would go without the tunnel, as the host's own
/// routes are now. Where there is no such way, nothing changes.
pub(crate) fn keep_outside(journal: &mut Journal, nets: &[IpNet]) -> Result<(), Error> {
    let _lock = journal::lock(&journal.record().paths.state_dir);
    netlink::block_on(async {
        let netlink = Netlink::connect()?;
        let tunnel = netlink.device(&journal.record().interface).await?.id.index;
        outside(&netlink, journal, tunnel, nets).await
    })
}

async fn links(
    journal: &mut Journal,
    plan: &Plan,
    obsolete: &[TunnelRoute],
) -> Result<(DeviceId, Vec<String>), Error> {
    let netlink = Netlink::connect()?;
    let before = netlink.device(&journal.record().interface).await?;
    let is_device = |change: &Change| matches!(change, Change::Device { .. });
    let again = journal.record().changes.iter().any(is_device);
    // Before the first route into the tunnel: the tunnel's own packets must stay outside it.
    if again {
        keep_bypasses(&netlink, journal, plan, before.id.index).await?;
    } else {
        first_bypasses(&netlink, journal, plan, before.id.index).await?;
        journal.add(Change::Device {
            device: before.id.clone(),
            addresses: plan.addresses.clone(),
            mtu: before.mtu,
            up: before.up,
        })?;
    }
    let device = before.id;
    if !before.up || before.mtu != Some(plan.mtu) {
        netlink.set_up(&device, plan.mtu).await?;
    }
    let mut warnings = Vec::new();
    let has_v6 = add_addresses(&netlink, &device, plan, &mut warnings).await?;
    let there = match again {
        true => netlink.routes().await?.through(device.index),
        false => HashSet::new(),
    };
    for route in obsolete {
        for net in halves(route.net).chain([route.net]) {
            netlink.delete_tunnel_route(&device, net).await?;
        }
    }
    for route in plan.routes.iter().filter(|route| has_v6 || !is_v6(&route.net)) {
        if !is_there(&there, route.net)
            && let Err(error) = tunnel_route(&netlink, &device, route).await
        {
            warnings.push(error.to_string());
        }
    }
    if !has_v6 {
        close(&netlink, journal, &plan.unreachable).await?;
    }
    Ok((device, warnings))
}

/// Adds the device's addresses. True when one of IPv6 is among them; that none can be had is a
/// warning: a host without IPv6, or an MTU below what IPv6 demands.
async fn add_addresses(
    netlink: &Netlink,
    device: &DeviceId,
    plan: &Plan,
    warnings: &mut Vec<String>,
) -> Result<bool, Error> {
    let mut has_v6 = false;
    for address in &plan.addresses {
        match netlink.add_address(device, *address).await {
            Ok(()) => has_v6 |= is_v6(address),
            Err(error) if is_v6(address) => warnings.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(has_v6)
}

/// True when packets to `net` go into the device already, by one route or by its halves.
fn is_there(there: &HashSet<IpNet>, net: IpNet) -> bool {
    let mut halves = halves(net).peekable();
    there.contains(&net) || (halves.peek().is_some() && halves.all(|half| there.contains(&half)))
}

/// Makes these networks unreachable beside the tunnel.
async fn close(netlink: &Netlink, journal: &mut Journal, nets: &[IpNet]) -> Result<(), Error> {
    for net in nets {
        let change = Change::Unreachable(*net);
        let ours = journal.has(&change);
        journal.add(change.clone())?;
        if netlink.add_unreachable(*net).await? == Added::Exists && !ours {
            journal.share(vec![change])?;
        }
    }
    Ok(())
}

/// Pins the ways that packets to the plan's bypasses take now, while the tunnel has no routes yet.
async fn first_bypasses(
    netlink: &Netlink,
    journal: &mut Journal,
    plan: &Plan,
    tunnel: u32,
) -> Result<(), Error> {
    let routes = netlink.routes().await?;
    let mut bypass = Vec::new();
    for net in &plan.bypass {
        if let Some(present) = netlink.present_route(*net, tunnel).await? {
            // The kernel names the source address that it would choose, the table only what
            // somebody has chosen.
            let chosen = routes.outside(*net, tunnel, &[]);
            let same_way = |route: &BypassRoute| (route.via, route.device) == (present.via, present.device);
            bypass.push(chosen.filter(same_way).unwrap_or(present));
        }
    }
    add_bypasses(netlink, journal, bypass).await
}

/// Removes the bypasses that the plan has no more, and moves the others to where the host's own
/// routes lead now.
async fn keep_bypasses(
    netlink: &Netlink,
    journal: &mut Journal,
    plan: &Plan,
    tunnel: u32,
) -> Result<(), Error> {
    let dropped = journal
        .record()
        .routes()
        .filter(|route| !plan.bypass.contains(&route.net));
    for route in dropped.cloned().collect::<Vec<_>>() {
        remove_bypass(netlink, journal, &route).await?;
    }
    outside(netlink, journal, tunnel, &plan.bypass).await
}

fn is_v6(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}

/// The two halves of a network; none of a host.
fn halves(net: IpNet) -> impl Iterator<Item = IpNet> {
    net.subnets(net.prefix_len() + 1).into_iter().flatten()
}

async fn add_bypasses(
    netlink: &Netlink,
    journal: &mut Journal,
    routes: Vec<BypassRoute>,
) -> Result<(), Error> {
    let changes: Vec<Change> = routes.iter().cloned().map(Change::Route).collect();
    let ours: Vec<bool> = changes.iter().map(|change| journal.has(change)).collect();
    journal.add_all(changes)?;
    let mut shared = Vec::new();
    for (route, ours) in routes.into_iter().zip(ours) {
        if netlink.add_route(&route).await? == Added::Exists && !ours {
            shared.push(Change::Route(route));
        }
    }
    journal.share(shared)
}

async fn remove_bypass(netlink: &Netlink, journal: &mut Journal, route: &BypassRoute) -> Result<(), Error> {
    netlink.delete_route(route).await?;
    journal.forget(&Change::Route(route.clone()))
}

/// Moves the routes to `nets` to where the host's own routes lead now.
async fn outside(netlink: &Netlink, journal: &mut Journal, tunnel: u32, nets: &[IpNet]) -> Result<(), Error> {
    let routes = netlink.routes().await?;
    let others = journal.others();
    let of_others: Vec<BypassRoute> = others.iter().flat_map(Record::routes).cloned().collect();
    let mut found = Vec::new();
    for net in nets {
        let ours: Vec<BypassRoute> = journal
            .record()
            .routes()
            .filter(|old| old.net == *net)
            .cloned()
            .collect();
        let made = [ours.as_slice(), &of_others].concat();
        let Some(route) = routes.outside(*net, tunnel, &made) else {
            continue;
        };
        for old in ours.iter().filter(|old| **old != route) {
            remove_bypass(netlink, journal, old).await?;
        }
        found.push(route);
    }
    // One that we have may have gone with its device.
    add_bypasses(netlink, journal, found).await
}

/// Routes a network into the tunnel without touching a route that is there already: where the
/// same prefix with the same metric exists, two halves of it are more specific and win.
async fn tunnel_route(netlink: &Netlink, device: &DeviceId, route: &TunnelRoute) -> Result<(), Error> {
    let added = netlink.add_tunnel_route(device, route.net, route.metric).await?;
    if added == Added::New {
        return Ok(());
    }
    let mut halves = halves(route.net).peekable();
    if halves.peek().is_none() {
        return Err(Error::Netlink {
            action: format!("route {} to {}", route.net, device.name),
            cause: "the host has the same route already".to_owned(),
        });
    }
    for half in halves {
        netlink.add_tunnel_route(device, half, route.metric).await?;
    }
    Ok(())
}
