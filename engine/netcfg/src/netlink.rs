//! Links, addresses and routes over rtnetlink.

use std::collections::HashSet;
use std::future::Future;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

use crate::Error;
use crate::journal::{BypassRoute, DeviceId};

/// Whether an added object is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It was added.
    New,
    /// The kernel had it already.
    Exists,
}

/// A network device.
#[derive(Debug)]
pub(crate) struct Device {
    /// Which one.
    pub(crate) id: DeviceId,
    /// Its MTU, if it has one.
    pub(crate) mtu: Option<u32>,
    /// Whether it is up.
    pub(crate) up: bool,
}

/// Runs netlink requests to their end on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(Error::Runtime)?
        .block_on(future)
}

/// A netlink connection; lives inside [`block_on`].
pub(crate) struct Netlink {
    handle: Handle,
}

/// The errno of a refused request, if the kernel answered at all.
fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(-message.raw_code()),
        _ => None,
    }
}

fn refused(action: String) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |error| {
        let cause = match errno(&error) {
            Some(code) => std::io::Error::from_raw_os_error(code).to_string(),
            None => error.to_string(),
        };
        Error::Netlink { action, cause }
    }
}

impl Netlink {
    pub(crate) fn connect() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| Error::Netlink {
            action: "open a netlink socket".to_owned(),
            cause: error.to_string(),
        })?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// A device as it is now.
    pub(crate) async fn device(&self, name: &str) -> Result<Device, Error> {
        let found = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute()
            .try_next()
            .await;
        match found {
            Ok(Some(link)) => Ok(Device {
                id: DeviceId {
                    name: name.to_owned(),
                    index: link.header.index,
                },
                mtu: link.attributes.iter().find_map(|attribute| match attribute {
                    LinkAttribute::Mtu(mtu) => Some(*mtu),
                    _ => None,
                }),
                up: link.header.flags.contains(LinkFlags::Up),
            }),
            _ => Err(Error::NoInterface(name.to_owned())),
        }
    }

    pub(crate) async fn set_up(&self, device: &DeviceId, mtu: u32) -> Result<(), Error> {
        let action = format!("set the interface {} up with MTU {mtu}", device.name);
        self.set(link(device).mtu(mtu).up(), action).await
    }

    /// One that is gone meanwhile is no error.
    pub(crate) async fn set_down(&self, device: &DeviceId) -> Result<(), Error> {
        let action = format!("set the interface {} down", device.name);
        self.set_if_there(link(device).down(), action).await
    }

    /// Gives a device that is down its MTU back, and sets it up if it was; if it is still there.
    pub(crate) async fn restore(&self, device: &DeviceId, mtu: Option<u32>, up: bool) -> Result<(), Error> {
        let action = format!("restore the interface {}", device.name);
        let mut message = link(device);
        if let Some(mtu) = mtu {
            message = message.mtu(mtu);
        }
        if up {
            message = message.up();
        }
        self.set_if_there(message, action).await
    }

    async fn set_if_there(
        &self,
        message: LinkMessageBuilder<LinkUnspec>,
        action: String,
    ) -> Result<(), Error> {
        match self.handle.link().set(message.build()).execute().await {
            Err(error) if errno(&error) != Some(libc::ENODEV) => Err(refused(action)(error)),
            _ => Ok(()),
        }
    }

    async fn set(&self, message: LinkMessageBuilder<LinkUnspec>, action: String) -> Result<(), Error> {
        let done = self.handle.link().set(message.build()).execute().await;
        done.map_err(refused(action))
    }

    /// Adds an address; one that is there already stays, without news to anybody.
    pub(crate) async fn add_address(&self, device: &DeviceId, net: IpNet) -> Result<(), Error> {
        let added = self
            .handle
            .address()
            .add(device.index, net.addr(), net.prefix_len());
        match added.execute().await {
            Err(error) if errno(&error) != Some(libc::EEXIST) => {
                let action = format!("add the address {net} to {}", device.name);
                Err(refused(action)(error))
            }
            _ => Ok(()),
        }
    }

    /// Deletes an address; one that is gone already is no error.
    pub(crate) async fn delete_address(&self, device: &DeviceId, net: IpNet) -> Result<(), Error> {
        let mut message = AddressMessage::default();
        message.header.index = device.index;
        message.header.prefix_len = net.prefix_len();
        message.header.family = match net {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        };
        message.attributes.push(AddressAttribute::Local(net.addr()));
        match self.handle.address().del(message).execute().await {
            Err(error)
                if !matches!(
                    errno(&error),
                    Some(libc::EADDRNOTAVAIL | libc::ENODEV | libc::ENXIO)
                ) =>
            {
                let action = format!("delete the address {net} of {}", device.name);
                Err(refused(action)(error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) async fn add_tunnel_route(
        &self,
        device: &DeviceId,
        net: IpNet,
        metric: u32,
    ) -> Result<Added, Error> {
        let action = format!("route {net} to {}", device.name);
        let mut builder = destination(net, &action)?
            .output_interface(device.index)
            .scope(RouteScope::Link);
        if metric > 0 {
            builder = builder.priority(metric);
        }
        self.add(builder.build(), action).await
    }

    /// The route that packets to `net` take now, as a route of its own; `None` when they do not
    /// leave the host, have no route, or go into the tunnel itself.
    pub(crate) async fn present_route(&self, net: IpNet, tunnel: u32) -> Result<Option<BypassRoute>, Error> {
        let action = format!("look up the route to {}", net.addr());
        let query = destination(IpNet::from(net.addr()), &action)?.build();
        let answer = match self.handle.route().get(query).execute().try_next().await {
            Ok(answer) => answer,
            Err(error) if matches!(errno(&error), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) => None,
            Err(error) => return Err(refused(action)(error)),
        };
        Ok(answer.and_then(|message| bypass_route(&message, net, tunnel)))
    }

    /// The main routing tables of both families.
    pub(crate) async fn routes(&self) -> Result<Routes, Error> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessageBuilder::<IpAddr>::new().build();
            message.header.address_family = family;
            let listed = self.handle.route().get(message).execute();
            let listed: Vec<RouteMessage> = listed
                .try_collect()
                .await
                .map_err(refused("list the routes".to_owned()))?;
            let main = |route: &RouteMessage| route.header.table == RouteHeader::RT_TABLE_MAIN;
            routes.extend(listed.into_iter().filter(main));
        }
        Ok(Routes(routes))
    }

    /// Deletes a route into the tunnel; one that is gone already is no error.
    pub(crate) async fn delete_tunnel_route(&self, device: &DeviceId, net: IpNet) -> Result<(), Error> {
        let action = format!("delete the route {net} to {}", device.name);
        let message = destination(net, &action)?.output_interface(device.index);
        self.delete(message.scope(RouteScope::Link).build(), action).await
    }

    /// Makes packets to `net` fail at once. [`Added::Exists`]: they do so without our help, because
    /// of somebody else or of a host without IPv6.
    pub(crate) async fn add_unreachable(&self, net: IpNet) -> Result<Added, Error> {
        let action = format!("make {net} unreachable");
        let message = destination(net, &action)?.kind(RouteType::Unreachable).build();
        match self.handle.route().add(message).execute().await {
            Ok(()) => Ok(Added::New),
            Err(error)
                if matches!(
                    errno(&error),
                    Some(libc::EEXIST | libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EACCES)
                ) =>
            {
                Ok(Added::Exists)
            }
            Err(error) => Err(refused(action)(error)),
        }
    }

    /// Undoes [`Self::add_unreachable`].
    pub(crate) async fn delete_unreachable(&self, net: IpNet) -> Result<(), Error> {
        let action = format!("make {net} reachable again");
        let message = destination(net, &action)?.kind(RouteType::Unreachable).build();
        self.delete(message, action).await
    }

    pub(crate) async fn add_route(&self, route: &BypassRoute) -> Result<Added, Error> {
        let action = format!("keep the route to {} outside the tunnel", route.net);
        let message = bypass_message(route, &action)?;
        self.add(message, action).await
    }

    /// Deletes a route; one that is gone already is no error.
    pub(crate) async fn delete_route(&self, route: &BypassRoute) -> Result<(), Error> {
        let action = format!("delete the route to {}", route.net);
        let message = bypass_message(route, &action)?;
        self.delete(message, action).await
    }

    async fn delete(&self, message: RouteMessage, action: String) -> Result<(), Error> {
        match self.handle.route().del(message).execute().await {
            Err(error) if !matches!(errno(&error), Some(libc::ESRCH | libc::ENODEV | libc::ENXIO)) => {
                Err(refused(action)(error))
            }
            _ => Ok(()),
        }
    }

    async fn add(&self, message: RouteMessage, action: String) -> Result<Added, Error> {
        match self.handle.route().add(message).execute().await {
            Ok(()) => Ok(Added::New),
            Err(error) if errno(&error) == Some(libc::EEXIST) => Ok(Added::Exists),
            Err(error) => Err(refused(action)(error)),
        }
    }
}

/// What the kernel's routing tables hold.
pub(crate) struct Routes(Vec<RouteMessage>);

impl Routes {
    /// The route that packets to `net` would take if neither the tunnel nor the routes of `except`
    /// were there.
    pub(crate) fn outside(&self, net: IpNet, tunnel: u32, except: &[BypassRoute]) -> Option<BypassRoute> {
        let candidates = self.0.iter().filter_map(|route| {
            let prefix = destination_of(route)?;
            let found = bypass_route(route, net, tunnel)?;
            let is_made = prefix == net && except.contains(&found);
            (prefix.contains(&net) && !is_made).then_some((prefix.prefix_len(), route, found))
        });
        let best = candidates.min_by_key(|(len, route, _)| {
            let down = route.header.flags.contains(RouteFlags::Linkdown);
            (std::cmp::Reverse(*len), down, metric(route))
        });
        best.map(|(_, _, route)| route)
    }

    /// The networks that are routed into this device.
    pub(crate) fn through(&self, device: u32) -> HashSet<IpNet> {
        let out = |route: &&RouteMessage| route.attributes.contains(&RouteAttribute::Oif(device));
        self.0.iter().filter(out).filter_map(destination_of).collect()
    }
}

fn link(device: &DeviceId) -> LinkMessageBuilder<LinkUnspec> {
    LinkMessageBuilder::<LinkUnspec>::new().index(device.index)
}

fn destination(net: IpNet, action: &str) -> Result<RouteMessageBuilder<IpAddr>, Error> {
    RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(net.addr(), net.prefix_len())
        .map_err(|error| Error::Netlink {
            action: action.to_owned(),
            cause: error.to_string(),
        })
}

/// Addresses of one route that do not fit together.
fn unfit(action: &str, error: impl ToString) -> Error {
    Error::Netlink {
        action: action.to_owned(),
        cause: error.to_string(),
    }
}

fn bypass_message(route: &BypassRoute, action: &str) -> Result<RouteMessage, Error> {
    let mut builder = destination(route.net, action)?.output_interface(route.device);
    match route.via {
        Some(via) => builder = builder.gateway(via).map_err(|error| unfit(action, error))?,
        None => builder = builder.scope(RouteScope::Link),
    }
    if let Some(source) = route.source {
        builder = builder
            .pref_source(source)
            .map_err(|error| unfit(action, error))?;
    }
    Ok(builder.build())
}

/// Destination of a route.
fn destination_of(message: &RouteMessage) -> Option<IpNet> {
    let unspecified = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        _ => IpAddr::from([0; 16]),
    };
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    let length = message.header.destination_prefix_length;
    IpNet::new(address.unwrap_or(unspecified), length).ok()
}

/// Smaller wins.
fn metric(message: &RouteMessage) -> u32 {
    let found = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    found.unwrap_or_default()
}

fn bypass_route(message: &RouteMessage, net: IpNet, tunnel: u32) -> Option<BypassRoute> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let (mut device, mut via, mut source) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            _ => {}
        }
    }
    let device = device.filter(|index| *index != tunnel)?;
    Some(BypassRoute {
        net,
        via,
        device,
        source,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
