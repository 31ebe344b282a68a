//! Addresses of the host's own network interfaces.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::cvt::cvt;

/// Name of the interface with this index.
///
/// # Errors
/// There is none.
pub fn name(index: u32) -> io::Result<String> {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: `name` has the room that if_indextoname writes to at most.
    if unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null() {
        return Err(io::Error::last_os_error());
    }
    let octets: Vec<u8> = name.iter().map(|octet| octet.cast_unsigned()).collect();
    let text = CStr::from_bytes_until_nul(&octets).map_err(io::Error::other)?;
    Ok(text.to_string_lossy().into_owned())
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// Name of the interface.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// Prefix length of its subnet.
    pub prefix_len: u8,
}

/// Every address of every interface.
///
/// # Errors
/// The system's refusal.
pub fn addresses() -> io::Result<Vec<InterfaceAddress>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: getifaddrs stores a list that freeifaddrs below takes back.
    cvt(unsafe { libc::getifaddrs(&raw mut list) })?;
    let mut found = Vec::new();
    let mut entry = list;
    while !entry.is_null() {
        // SAFETY: `entry` is an element of the list, which is still allocated; its name is a
        // string, its address and netmask are null or valid socket addresses of the family that
        // they state.
        unsafe {
            let current = &*entry;
            if let (Some(address), Some(mask)) = (ip(current.ifa_addr), ip(current.ifa_netmask)) {
                found.push(InterfaceAddress {
                    name: CStr::from_ptr(current.ifa_name).to_string_lossy().into_owned(),
                    address,
                    prefix_len: prefix_length(mask),
                });
            }
            entry = current.ifa_next;
        }
    }
    // SAFETY: `list` came from getifaddrs and is not used afterwards.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

/// Every address of every interface, with the prefix length of its subnet.
///
/// # Errors
/// The system's refusal.
pub fn subnets() -> io::Result<Vec<(IpAddr, u8)>> {
    let found = addresses()?;
    Ok(found
        .into_iter()
        .map(|found| (found.address, found.prefix_len))
        .collect())
}

/// # Safety
/// `address` is null or points to a socket address of the family that it states.
unsafe fn ip(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: promised by the caller.
    unsafe {
        match i32::from((*address).sa_family) {
            libc::AF_INET => {
                let address = address.cast::<libc::sockaddr_in>().read_unaligned();
                Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                let address = address.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

fn prefix_length(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    u8::try_from(ones).unwrap_or(128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_them() {
        let found = subnets().unwrap();
        assert!(found.contains(&(Ipv4Addr::LOCALHOST.into(), 8)), "{found:?}");
        assert!(addresses().unwrap().iter().any(|found| found.name == "lo"));
    }

    #[test]
    fn indexes_have_names() {
        assert_eq!(name(1).unwrap(), "lo");
        assert!(name(u32::MAX).is_err());
    }
}
