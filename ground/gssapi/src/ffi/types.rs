//! The types of the library's functions: RFC 2744 and the libraries' headers.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Oid {
    length: u32,
    elements: *const c_void,
}

#[repr(C)]
pub(super) struct OidSet {
    count: usize,
    elements: *const Oid,
}

// SAFETY: those of this module point to constant octets.
unsafe impl Sync for Oid {}

impl Oid {
    const fn new(encoded: &'static [u8]) -> Self {
        Self {
            length: encoded.len() as u32,
            elements: encoded.as_ptr().cast(),
        }
    }
}

/// 1.3.6.1.5.5.2
pub(super) static SPNEGO: Oid = Oid::new(&[0x2b, 6, 1, 5, 5, 2]);
/// 1.2.840.113554.1.2.2
pub(super) static KERBEROS: Oid = Oid::new(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2]);
/// 1.2.840.113554.1.2.1.4, `service@host`
pub(super) static HOST_BASED_SERVICE: Oid = Oid::new(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 1, 4]);

pub(super) fn set(oid: &'static Oid) -> OidSet {
    OidSet {
        count: 1,
        elements: oid,
    }
}

#[repr(C)]
pub(super) struct RawBuffer {
    pub(super) length: usize,
    pub(super) value: *mut c_void,
}

impl RawBuffer {
    pub(super) const fn empty() -> Self {
        Self {
            length: 0,
            value: null_mut(),
        }
    }

    /// For input: the library only reads it.
    pub(super) fn of(octets: &[u8]) -> Self {
        Self {
            length: octets.len(),
            value: octets.as_ptr().cast_mut().cast(),
        }
    }
}

/// `gss_channel_bindings_struct`, without addresses (RFC 5801 §3: no address types).
#[repr(C)]
pub(super) struct RawBindings {
    initiator_type: u32,
    initiator: RawBuffer,
    acceptor_type: u32,
    acceptor: RawBuffer,
    application_data: RawBuffer,
}

impl RawBindings {
    /// For input: the library only reads it, and what it points to.
    pub(super) fn of(data: &[u8]) -> Self {
        Self {
            initiator_type: 0,
            initiator: RawBuffer::empty(),
            acceptor_type: 0,
            acceptor: RawBuffer::empty(),
            application_data: RawBuffer::of(data),
        }
    }
}

/// `gss_key_value_element_struct`
#[repr(C)]
pub(super) struct StoreElement {
    pub(super) key: *const c_char,
    pub(super) value: *const c_char,
}

/// `gss_key_value_set_struct`
#[repr(C)]
pub(super) struct Store {
    pub(super) count: u32,
    pub(super) elements: *const StoreElement,
}

pub(super) type Minor = *mut u32;
pub(super) type Handle = *mut c_void;

pub(super) type ImportName = unsafe extern "C" fn(Minor, *const RawBuffer, *const Oid, *mut Handle) -> u32;
pub(super) type Release = unsafe extern "C" fn(Minor, *mut Handle) -> u32;
pub(super) type DeleteContext = unsafe extern "C" fn(Minor, *mut Handle, *mut RawBuffer) -> u32;
pub(super) type ReleaseBuffer = unsafe extern "C" fn(Minor, *mut RawBuffer) -> u32;
pub(super) type InitContext = unsafe extern "C" fn(
    Minor,
    Handle,
    *mut Handle,
    Handle,
    *const Oid,
    u32,
    u32,
    *const RawBindings,
    *const RawBuffer,
    *mut *const Oid,
    *mut RawBuffer,
    *mut u32,
    *mut u32,
) -> u32;
pub(super) type AcceptContext = unsafe extern "C" fn(
    Minor,
    *mut Handle,
    Handle,
    *const RawBuffer,
    *const RawBindings,
    *mut Handle,
    *mut *const Oid,
    *mut RawBuffer,
    *mut u32,
    *mut u32,
    *mut Handle,
) -> u32;
pub(super) type AcquireCredentials = unsafe extern "C" fn(
    Minor,
    Handle,
    u32,
    *const OidSet,
    c_int,
    *mut Handle,
    *mut *mut OidSet,
    *mut u32,
) -> u32;
pub(super) type AcquireCredentialsFrom = unsafe extern "C" fn(
    Minor,
    Handle,
    u32,
    *const OidSet,
    c_int,
    *const Store,
    *mut Handle,
    *mut *mut OidSet,
    *mut u32,
) -> u32;
pub(super) type SetNegotiable = unsafe extern "C" fn(Minor, Handle, *const OidSet) -> u32;
pub(super) type DisplayName = unsafe extern "C" fn(Minor, Handle, *mut RawBuffer, *mut *const Oid) -> u32;
pub(super) type LocalName = unsafe extern "C" fn(Minor, Handle, *const Oid, *mut RawBuffer) -> u32;
pub(super) type DisplayStatus =
    unsafe extern "C" fn(Minor, u32, c_int, *const Oid, *mut u32, *mut RawBuffer) -> u32;
pub(super) type Wrap =
    unsafe extern "C" fn(Minor, Handle, c_int, u32, *const RawBuffer, *mut c_int, *mut RawBuffer) -> u32;
pub(super) type Unwrap =
    unsafe extern "C" fn(Minor, Handle, *const RawBuffer, *mut RawBuffer, *mut c_int, *mut u32) -> u32;
pub(super) type RegisterKeytab = unsafe extern "C" fn(*const c_char) -> u32;
pub(super) type ExtractAuthTime = unsafe extern "C" fn(Minor, Handle, *mut i64) -> u32;
