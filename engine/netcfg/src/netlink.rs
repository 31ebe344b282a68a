//! Links, addresses and routes over rtnetlink.

use std::future::Future;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

use crate::Error;
use crate::journal::BypassRoute;

/// Whether an added object is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It was added.
    New,
    /// The kernel had it already.
    Exists,
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

    /// Index of an interface.
    pub(crate) async fn index(&self, name: &str) -> Result<u32, Error> {
        let found = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute()
            .try_next()
            .await;
        match found {
            Ok(Some(link)) => Ok(link.header.index),
            _ => Err(Error::NoInterface(name.to_owned())),
        }
    }

    pub(crate) async fn set_up(&self, index: u32, name: &str, mtu: u32) -> Result<(), Error> {
        let message = LinkMessageBuilder::<LinkUnspec>::new()
            .index(index)
            .mtu(mtu)
            .up()
            .build();
        let done = self.handle.link().set(message).execute().await;
        done.map_err(refused(format!("set the interface {name} up with MTU {mtu}")))
    }

    pub(crate) async fn add_address(&self, index: u32, name: &str, net: IpNet) -> Result<(), Error> {
        let done = self
            .handle
            .address()
            .add(index, net.addr(), net.prefix_len())
            .replace()
            .execute()
            .await;
        done.map_err(refused(format!("add the address {net} to {name}")))
    }

    pub(crate) async fn add_tunnel_route(
        &self,
        index: u32,
        name: &str,
        net: IpNet,
        metric: u32,
    ) -> Result<Added, Error> {
        let action = format!("route {net} to {name}");
        let mut builder = destination(net, &action)?
            .output_interface(index)
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

    pub(crate) async fn add_route(&self, route: &BypassRoute) -> Result<Added, Error> {
        let action = format!("keep the route to {} outside the tunnel", route.net);
        let message = bypass_message(route, &action)?;
        self.add(message, action).await
    }

    /// Deletes a route; one that is gone already is no error.
    pub(crate) async fn delete_route(&self, route: &BypassRoute) -> Result<(), Error> {
        let action = format!("delete the route to {}", route.net);
        let message = bypass_message(route, &action)?;
        match self.handle.route().del(message).execute().await {
            Err(error) if !matches!(errno(&error), Some(libc::ESRCH | libc::ENODEV)) => {
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
