//! What an Access-Request says, and what an Access-Accept gives (`specs/server-auth.md` §2.4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use culvert_vocab::{GROUPS_MAX, GroupName, SecretString};
use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::attribute::*;
use crate::packet::{Attribute, Packet};
use crate::reply::message;
use crate::request::{Code, Request};

/// Most routes of one user; more do not fit a packet anyway.
const ROUTES_MAX: usize = 512;
/// IPv6 servers for DNS that are used.
const DNS_V6_MAX: usize = 2;
/// The user chooses the address, the NAS chooses it: both mean the pool (RFC 2865 §5.8).
const FROM_POOL: [Ipv4Addr; 2] = [
    Ipv4Addr::new(255, 255, 255, 255),
    Ipv4Addr::new(255, 255, 255, 254),
];

/// A question whether a user may come in.
#[derive(Debug, Clone)]
pub struct AccessRequest {
    /// User name, with the realm if one is added.
    pub user: String,
    /// Password, or the answer to a challenge.
    pub password: SecretString,
    /// The server's address that the client connected to.
    pub nas_address: Option<IpAddr>,
    /// NAS-Identifier.
    pub nas_identifier: Option<String>,
    /// The client's address.
    pub calling_station: IpAddr,
    /// Acct-Session-Id that this session's accounting will have.
    pub session: String,
    /// The client's user agent.
    pub connect_info: String,
    /// State of the last challenge; empty without one.
    pub state: Vec<u8>,
}

impl From<AccessRequest> for Request {
    fn from(access: AccessRequest) -> Self {
        let mut request = Self::new(Code::Access);
        request.push(USER_NAME, access.user);
        request.push_password(access.password);
        if let Some(address) = access.nas_address {
            request.push_nas_address(address);
        }
        if let Some(identifier) = access.nas_identifier {
            request.push(NAS_IDENTIFIER, identifier);
        }
        request.push(CALLING_STATION_ID, access.calling_station.to_string());
        request.push(ACCT_SESSION_ID, access.session);
        if !access.connect_info.is_empty() {
            request.push(CONNECT_INFO, access.connect_info);
        }
        request.push_number(SERVICE_TYPE, SERVICE_AUTHENTICATE_ONLY);
        request.push_number(NAS_PORT_TYPE, PORT_ASYNC);
        if !access.state.is_empty() {
            request.push(STATE, access.state);
        }
        request
    }
}

/// What an Access-Accept gives a user. Everything is typed; what has a wrong form is in
/// [`Self::problems`], what is not understood in [`Self::ignored`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Service-Type; 0, which no service has, if it is malformed.
    pub service_type: Option<u32>,
    /// Class attributes as they are.
    pub classes: Vec<Vec<u8>>,
    /// Filter-Id attributes as they are.
    pub filter_ids: Vec<Vec<u8>>,
    /// Framed-Pool, if it is a name.
    pub pool: Option<GroupName>,
    /// Text for the user.
    pub message: Option<String>,
    /// The client's IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Prefix length of the client's netmask.
    pub ipv4_prefix: Option<u8>,
    /// The client's IPv6 address and the prefix length of its network.
    pub ipv6: Option<Ipv6Net>,
    /// Routes to announce.
    pub routes: Vec<IpNet>,
    /// DNS servers, IPv4 before IPv6.
    pub dns: Vec<IpAddr>,
    /// Longest life of the session.
    pub session_timeout: Option<Duration>,
    /// Time without traffic that ends the session.
    pub idle_timeout: Option<Duration>,
    /// Interval of accounting updates.
    pub interim_interval: Option<Duration>,
    /// Bytes per second from the client.
    pub rx_per_second: Option<u64>,
    /// Bytes per second to the client.
    pub tx_per_second: Option<u64>,
    /// Attributes of a wrong form, one text each.
    pub problems: Vec<String>,
    /// Attributes that mean nothing here: vendor, if any, and type.
    pub ignored: Vec<(Option<u32>, u8)>,
}

impl Profile {
    /// Reads all attributes of a packet that is known to be the server's.
    pub fn read(packet: &Packet<'_>) -> Self {
        let mut profile = Self {
            message: message(packet),
            ..Self::default()
        };
        let mut dns = Dns::default();
        let mut delegated = None;
        for attribute in packet.attributes() {
            let taken = match attribute.kind {
                VENDOR_SPECIFIC => profile.take_vendor(&attribute, &mut dns),
                DNS_SERVER_IPV6_ADDRESS => ipv6(attribute.value).map(|address| dns.ipv6.push(address)),
                DELEGATED_IPV6_PREFIX => prefix(attribute.value).map(|net| delegated = Some(net)),
                _ => profile.take(&attribute),
            };
            if let Err(Wrong) = taken {
                if attribute.kind == SERVICE_TYPE {
                    profile.service_type = Some(0);
                }
                let name = format!("attribute {} is malformed", attribute.kind);
                profile.problems.push(name);
            }
        }
        profile.ipv6 = profile.ipv6.or(delegated);
        profile.dns = dns.list();
        profile
    }

    fn take(&mut self, attribute: &Attribute<'_>) -> Result<(), Wrong> {
        let value = attribute.value;
        match attribute.kind {
            SERVICE_TYPE => self.service_type = Some(number(value)?),
            CLASS => self.classes.push(value.to_vec()),
            FRAMED_POOL => {
                let name = std::str::from_utf8(value).map_err(|_| Wrong)?;
                self.pool = Some(GroupName::new(name).map_err(|_| Wrong)?);
            }
            FILTER_ID => self.filter_ids.push(value.to_vec()),
            FRAMED_IP_ADDRESS => {
                self.ipv4 = Some(ipv4(value)?).filter(|address| !FROM_POOL.contains(address));
            }
            FRAMED_IP_NETMASK => {
                let mask = ipnet::ipv4_mask_to_prefix(ipv4(value)?).map_err(|_| Wrong)?;
                self.ipv4_prefix = Some(mask);
            }
            FRAMED_IPV6_ADDRESS => {
                self.ipv6 = Some(Ipv6Net::new(ipv6(value)?, 64).map_err(|_| Wrong)?);
            }
            FRAMED_IPV6_PREFIX => self.add_route(prefix(value)?.trunc().into())?,
            FRAMED_ROUTE | FRAMED_IPV6_ROUTE => {
                if let Some(route) = route(value)? {
                    self.add_route(route)?;
                }
            }
            SESSION_TIMEOUT => self.session_timeout = seconds(value)?,
            IDLE_TIMEOUT => self.idle_timeout = seconds(value)?,
            ACCT_INTERIM_INTERVAL => self.interim_interval = seconds(value)?,
            REPLY_MESSAGE | MESSAGE_AUTHENTICATOR => {}
            kind => self.ignored.push((None, kind)),
        }
        Ok(())
    }

    fn take_vendor(&mut self, attribute: &Attribute<'_>, dns: &mut Dns) -> Result<(), Wrong> {
        let (vendor, attributes) = attribute.vendor_attributes().ok_or(Wrong)?;
        for attribute in attributes {
            let value = attribute.value;
            match (vendor, attribute.kind) {
                (VENDOR_MICROSOFT, MS_PRIMARY_DNS_SERVER) => dns.primary = Some(ipv4(value)?),
                (VENDOR_MICROSOFT, MS_SECONDARY_DNS_SERVER) => dns.secondary = Some(ipv4(value)?),
                (VENDOR_ROARING_PENGUIN, RP_UPSTREAM_SPEED_LIMIT) => {
                    self.rx_per_second = Some(u64::from(number(value)?) * 1000);
                }
                (VENDOR_ROARING_PENGUIN, RP_DOWNSTREAM_SPEED_LIMIT) => {
                    self.tx_per_second = Some(u64::from(number(value)?) * 1000);
                }
                (vendor, kind) => self.ignored.push((Some(vendor), kind)),
            }
        }
        Ok(())
    }

    fn add_route(&mut self, route: IpNet) -> Result<(), Wrong> {
        if self.routes.len() == ROUTES_MAX {
            return Err(Wrong);
        }
        self.routes.push(route);
        Ok(())
    }

    /// The groups in the Class attributes, and in Filter-Id if that counts: `OU=a;b` is a list with
    /// this separator, anything else one group. Values that are no group's name are left out; `true`:
    /// there were too many.
    pub fn groups(&self, separator: char, filter_id: bool) -> (Vec<GroupName>, bool) {
        let mut groups = Vec::new();
        let filters = self.filter_ids.iter().filter(|_| filter_id);
        for value in self.classes.iter().chain(filters) {
            let Ok(class) = std::str::from_utf8(value) else {
                continue;
            };
            let (list, separator) = match class.strip_prefix("OU=") {
                Some(list) => (list, Some(separator)),
                None => (class, None),
            };
            let names = list.split(|c| Some(c) == separator);
            for name in names.filter_map(|name| GroupName::new(name.trim()).ok()) {
                if groups.len() == GROUPS_MAX {
                    return (groups, true);
                }
                groups.push(name);
            }
        }
        (groups, false)
    }
}

/// An attribute of a wrong form.
struct Wrong;

#[derive(Default)]
struct Dns {
    primary: Option<Ipv4Addr>,
    secondary: Option<Ipv4Addr>,
    ipv6: Vec<Ipv6Addr>,
}

impl Dns {
    fn list(self) -> Vec<IpAddr> {
        let ipv4 = [self.primary, self.secondary].into_iter().flatten();
        let ipv6 = self.ipv6.into_iter().take(DNS_V6_MAX);
        ipv4.map(IpAddr::from).chain(ipv6.map(IpAddr::from)).collect()
    }
}

fn number(value: &[u8]) -> Result<u32, Wrong> {
    value.try_into().map(u32::from_be_bytes).map_err(|_| Wrong)
}

/// Zero means no limit.
fn seconds(value: &[u8]) -> Result<Option<Duration>, Wrong> {
    let seconds = number(value)?;
    Ok((seconds > 0).then(|| Duration::from_secs(seconds.into())))
}

fn ipv4(value: &[u8]) -> Result<Ipv4Addr, Wrong> {
    number(value).map(Ipv4Addr::from_bits)
}

fn ipv6(value: &[u8]) -> Result<Ipv6Addr, Wrong> {
    <[u8; 16]>::try_from(value).map(Ipv6Addr::from).map_err(|_| Wrong)
}

/// Reserved octet, prefix length, and as much of the prefix as there is (RFC 3162 §2.3).
fn prefix(value: &[u8]) -> Result<Ipv6Net, Wrong> {
    let [_reserved, length, octets @ ..] = value else {
        return Err(Wrong);
    };
    let mut address = [0; 16];
    if octets.len() > address.len() || octets.len() * 8 < usize::from(*length) {
        return Err(Wrong);
    }
    for (to, from) in address.iter_mut().zip(octets) {
        *to = *from;
    }
    Ipv6Net::new(address.into(), *length).map_err(|_| Wrong)
}

/// `NETWORK/LENGTH GATEWAY METRIC...`: the network; `None` when the length is missing, which
/// some servers mean as a comment.
fn route(value: &[u8]) -> Result<Option<IpNet>, Wrong> {
    let text = std::str::from_utf8(value).map_err(|_| Wrong)?;
    let network = text.split_ascii_whitespace().next().unwrap_or_default();
    let Some((address, length)) = network.split_once('/') else {
        return Ok(None);
    };
    let address: IpAddr = address.parse().map_err(|_| Wrong)?;
    let length = match length.parse::<u8>() {
        Ok(length) => length,
        Err(_) => {
            let mask: IpAddr = length.parse().map_err(|_| Wrong)?;
            ipnet::ip_mask_to_prefix(mask).map_err(|_| Wrong)?
        }
    };
    let net = IpNet::new(address, length).map_err(|_| Wrong)?;
    Ok(Some(net.trunc()))
}
