//! The library's functions. Everything outside this module is safe code: objects of the library
//! are owned here, released once, and never null where they are used.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};
use std::time::{Duration, SystemTime};

use culvert_sys::library::Library;
use zeroize::Zeroizing;

use crate::{GssError, TOKEN_MAX};

/// MIT, then Heimdal.
const LIBRARIES: [&str; 3] = ["libgssapi_krb5.so.2", "libgssapi.so.3", "libgssapi_krb5.so"];

const COMPLETE: u32 = 0;
const CONTINUE_NEEDED: u32 = 1;
/// Calling and routine errors; the rest is information.
const ERRORS: u32 = 0xffff_0000;
/// Routine error: the channel bindings of both sides differ.
const BAD_BINDINGS: u32 = 4 << 16;
const GSS_CODE: c_int = 1;
const MECH_CODE: c_int = 2;
const USAGE_INITIATE: c_int = 1;
const USAGE_ACCEPT: c_int = 2;
/// Both sides prove who they are.
const MUTUAL: u32 = 2;
/// What is attempted with the keys of a server.
const KEYTAB: &str = "cannot use the keytab";
/// What is attempted with the tickets of a user.
const TICKET: &str = "no ticket for the service";
/// Most lines of an error's text.
const STATUS_LINES_MAX: usize = 8;

#[repr(C)]
#[derive(Clone, Copy)]
struct Oid {
    length: u32,
    elements: *const c_void,
}

#[repr(C)]
struct OidSet {
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
static SPNEGO: Oid = Oid::new(&[0x2b, 6, 1, 5, 5, 2]);
/// 1.2.840.113554.1.2.2
static KERBEROS: Oid = Oid::new(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2]);
/// 1.2.840.113554.1.2.1.4, `service@host`
static HOST_BASED_SERVICE: Oid = Oid::new(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 1, 4]);

fn set(oid: &'static Oid) -> OidSet {
    OidSet {
        count: 1,
        elements: oid,
    }
}

#[repr(C)]
struct RawBuffer {
    length: usize,
    value: *mut c_void,
}

impl RawBuffer {
    const fn empty() -> Self {
        Self {
            length: 0,
            value: null_mut(),
        }
    }

    /// For input: the library only reads it.
    fn of(octets: &[u8]) -> Self {
        Self {
            length: octets.len(),
            value: octets.as_ptr().cast_mut().cast(),
        }
    }
}

/// `gss_channel_bindings_struct`, without addresses (RFC 5801 §3: no address types).
#[repr(C)]
struct RawBindings {
    initiator_type: u32,
    initiator: RawBuffer,
    acceptor_type: u32,
    acceptor: RawBuffer,
    application_data: RawBuffer,
}

impl RawBindings {
    /// For input: the library only reads it, and what it points to.
    fn of(data: &[u8]) -> Self {
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
struct StoreElement {
    key: *const c_char,
    value: *const c_char,
}

/// `gss_key_value_set_struct`
#[repr(C)]
struct Store {
    count: u32,
    elements: *const StoreElement,
}

type Minor = *mut u32;
type Handle = *mut c_void;

type ImportName = unsafe extern "C" fn(Minor, *const RawBuffer, *const Oid, *mut Handle) -> u32;
type Release = unsafe extern "C" fn(Minor, *mut Handle) -> u32;
type DeleteContext = unsafe extern "C" fn(Minor, *mut Handle, *mut RawBuffer) -> u32;
type ReleaseBuffer = unsafe extern "C" fn(Minor, *mut RawBuffer) -> u32;
type InitContext = unsafe extern "C" fn(
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
type AcceptContext = unsafe extern "C" fn(
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
type AcquireCredentials = unsafe extern "C" fn(
    Minor,
    Handle,
    u32,
    *const OidSet,
    c_int,
    *mut Handle,
    *mut *mut OidSet,
    *mut u32,
) -> u32;
type AcquireCredentialsFrom = unsafe extern "C" fn(
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
type SetNegotiable = unsafe extern "C" fn(Minor, Handle, *const OidSet) -> u32;
type DisplayName = unsafe extern "C" fn(Minor, Handle, *mut RawBuffer, *mut *const Oid) -> u32;
type LocalName = unsafe extern "C" fn(Minor, Handle, *const Oid, *mut RawBuffer) -> u32;
type DisplayStatus = unsafe extern "C" fn(Minor, u32, c_int, *const Oid, *mut u32, *mut RawBuffer) -> u32;
type Wrap =
    unsafe extern "C" fn(Minor, Handle, c_int, u32, *const RawBuffer, *mut c_int, *mut RawBuffer) -> u32;
type Unwrap =
    unsafe extern "C" fn(Minor, Handle, *const RawBuffer, *mut RawBuffer, *mut c_int, *mut u32) -> u32;
type RegisterKeytab = unsafe extern "C" fn(*const c_char) -> u32;
type ExtractAuthTime = unsafe extern "C" fn(Minor, Handle, *mut i64) -> u32;

/// The loaded library.
#[derive(Clone, Copy)]
pub(crate) struct Gssapi {
    import_name: ImportName,
    release_name: Release,
    release_credentials: Release,
    delete_context: DeleteContext,
    release_buffer: ReleaseBuffer,
    init_context: InitContext,
    accept_context: AcceptContext,
    acquire_credentials: AcquireCredentials,
    /// MIT's library alone.
    acquire_credentials_from: Option<AcquireCredentialsFrom>,
    set_negotiable: SetNegotiable,
    display_name: DisplayName,
    local_name: LocalName,
    display_status: DisplayStatus,
    wrap: Wrap,
    unwrap: Unwrap,
    register_keytab: RegisterKeytab,
    extract_auth_time: ExtractAuthTime,
}

impl Gssapi {
    pub(crate) fn load() -> Result<Self, GssError> {
        let library = Library::open(&LIBRARIES)?;
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the types above are those of RFC 2744 and of the libraries' headers.
                unsafe { library.function($name) }
                    .ok_or(GssError::Function($name.to_str().unwrap_or_default()))
            };
        }
        Ok(Self {
            import_name: function!(c"gss_import_name")?,
            release_name: function!(c"gss_release_name")?,
            release_credentials: function!(c"gss_release_cred")?,
            delete_context: function!(c"gss_delete_sec_context")?,
            release_buffer: function!(c"gss_release_buffer")?,
            init_context: function!(c"gss_init_sec_context")?,
            accept_context: function!(c"gss_accept_sec_context")?,
            acquire_credentials: function!(c"gss_acquire_cred")?,
            acquire_credentials_from: function!(c"gss_acquire_cred_from").ok(),
            set_negotiable: function!(c"gss_set_neg_mechs")?,
            display_name: function!(c"gss_display_name")?,
            local_name: function!(c"gss_localname")?,
            display_status: function!(c"gss_display_status")?,
            wrap: function!(c"gss_wrap")?,
            unwrap: function!(c"gss_unwrap")?,
            // The name in MIT's library; Heimdal's has the other one.
            register_keytab: function!(c"krb5_gss_register_acceptor_identity")
                .or_else(|_| function!(c"gsskrb5_register_acceptor_identity"))?,
            extract_auth_time: function!(c"gsskrb5_extract_authtime_from_sec_context")?,
        })
    }

    /// Owns what the library has allocated.
    fn take(&self, mut buffer: RawBuffer) -> Zeroizing<Vec<u8>> {
        let mut octets = Zeroizing::new(Vec::new());
        if !buffer.value.is_null() {
            // SAFETY: the library says that `length` octets are there.
            octets.extend_from_slice(unsafe {
                std::slice::from_raw_parts(buffer.value.cast::<u8>(), buffer.length)
            });
        }
        let mut minor = 0;
        // SAFETY: a buffer that the library has filled or left empty.
        unsafe { (self.release_buffer)(&raw mut minor, &raw mut buffer) };
        octets
    }

    fn text(&self, buffer: RawBuffer) -> String {
        String::from_utf8_lossy(&self.take(buffer)).into_owned()
    }

    /// The library's words for a status, of the mechanism's if there are any.
    fn failed(&self, attempt: &'static str, major: u32, minor: u32) -> GssError {
        let of_mechanism = (minor != 0).then(|| self.status(minor, MECH_CODE));
        let reason = match of_mechanism {
            Some(text) if !text.is_empty() => text,
            _ => self.status(major, GSS_CODE),
        };
        GssError::Failed { attempt, reason }
    }

    fn status(&self, value: u32, kind: c_int) -> String {
        let mut lines = Vec::new();
        let mut next = 0;
        for _ in 0..STATUS_LINES_MAX {
            let (mut minor, mut buffer) = (0, RawBuffer::empty());
            let mechanism = if kind == MECH_CODE {
                &raw const SPNEGO
            } else {
                null()
            };
            // SAFETY: all pointers lead to live values of the right types.
            let major = unsafe {
                (self.display_status)(
                    &raw mut minor,
                    value,
                    kind,
                    mechanism,
                    &raw mut next,
                    &raw mut buffer,
                )
            };
            lines.push(self.text(buffer));
            if major & ERRORS != 0 || next == 0 {
                break;
            }
        }
        lines.retain(|line| !line.is_empty());
        lines.join(", ")
    }

    fn check(&self, attempt: &'static str, major: u32, minor: u32) -> Result<(), GssError> {
        match major & ERRORS {
            0 => Ok(()),
            _ => Err(self.failed(attempt, major, minor)),
        }
    }

    /// The name of a service, as `HTTP@host`.
    pub(crate) fn service(self, name: &str) -> Result<Name, GssError> {
        let (mut minor, mut handle) = (0, null_mut());
        let text = RawBuffer::of(name.as_bytes());
        // SAFETY: all pointers lead to live values of the right types.
        let major = unsafe {
            (self.import_name)(
                &raw mut minor,
                &raw const text,
                &raw const HOST_BASED_SERVICE,
                &raw mut handle,
            )
        };
        self.check("cannot use the name of the service", major, minor)?;
        Ok(Name {
            library: self,
            handle,
        })
    }

    /// The keys of a server: those of `keytab`, or of the host. Kerberos within SPNEGO only.
    pub(crate) fn server_credentials(self, keytab: Option<&Path>) -> Result<Credentials, GssError> {
        if let Some(keytab) = keytab {
            let path = CString::new(keytab.as_os_str().as_bytes())
                .map_err(|_| GssError::Token("the keytab's name contains a zero octet"))?;
            // SAFETY: a C string, which the library copies.
            let major = unsafe { (self.register_keytab)(path.as_ptr()) };
            self.check(KEYTAB, major, 0)?;
        }
        let (spnego, kerberos) = (set(&SPNEGO), set(&KERBEROS));
        // SPNEGO does not say what is wrong with a keytab; Kerberos does.
        drop(self.acquire(&kerberos, USAGE_ACCEPT, KEYTAB)?);
        let keys = self.acquire(&spnego, USAGE_ACCEPT, KEYTAB)?;
        self.only(&kerberos, keys)
    }

    /// The same keys for a trial: tickets are not remembered, so they stay good for the real thing.
    /// `None` where the library cannot do that.
    pub(crate) fn trial_credentials(self) -> Result<Option<Credentials>, GssError> {
        let Some(acquire_from) = self.acquire_credentials_from else {
            return Ok(None);
        };
        let (spnego, kerberos) = (set(&SPNEGO), set(&KERBEROS));
        let no_replay_cache = StoreElement {
            key: c"rcache".as_ptr(),
            value: c"none:".as_ptr(),
        };
        let store = Store {
            count: 1,
            elements: &raw const no_replay_cache,
        };
        let (mut minor, mut handle) = (0, null_mut());
        // SAFETY: all pointers lead to live values of the right types, or are null where that
        // means "any" or "not wanted".
        let major = unsafe {
            acquire_from(
                &raw mut minor,
                null_mut(),
                u32::MAX,
                &raw const spnego,
                USAGE_ACCEPT,
                &raw const store,
                &raw mut handle,
                null_mut(),
                null_mut(),
            )
        };
        self.check(KEYTAB, major, minor)?;
        let keys = Credentials {
            library: self,
            handle,
        };
        self.only(&kerberos, keys).map(Some)
    }

    /// SPNEGO with these keys negotiates only this mechanism.
    fn only(self, mechanism: &OidSet, keys: Credentials) -> Result<Credentials, GssError> {
        let mut minor = 0;
        // SAFETY: credentials of the library, and a set that it copies.
        let major = unsafe { (self.set_negotiable)(&raw mut minor, keys.handle, mechanism) };
        self.check(KEYTAB, major, minor)?;
        Ok(keys)
    }

    fn acquire(
        self,
        mechanism: &OidSet,
        usage: c_int,
        attempt: &'static str,
    ) -> Result<Credentials, GssError> {
        let (mut minor, mut handle) = (0, null_mut());
        // SAFETY: all pointers lead to live values of the right types, or are null where that
        // means "any" or "not wanted".
        let major = unsafe {
            (self.acquire_credentials)(
                &raw mut minor,
                null_mut(),
                u32::MAX,
                mechanism,
                usage,
                &raw mut handle,
                null_mut(),
                null_mut(),
            )
        };
        self.check(attempt, major, minor)?;
        Ok(Credentials {
            library: self,
            handle,
        })
    }

    /// Why there is no ticket: SPNEGO does not say that, either.
    fn no_ticket(self) -> Option<GssError> {
        self.acquire(&set(&KERBEROS), USAGE_INITIATE, TICKET).err()
    }

    /// A context at its start.
    pub(crate) fn context(self) -> Context {
        Context {
            library: self,
            handle: null_mut(),
        }
    }
}

/// A name of the library.
pub(crate) struct Name {
    library: Gssapi,
    handle: Handle,
}

impl Name {
    /// As text: `user@REALM`.
    pub(crate) fn display(&self) -> Result<String, GssError> {
        let (mut minor, mut buffer) = (0, RawBuffer::empty());
        // SAFETY: a name of the library; the other pointers lead to live values.
        let major =
            unsafe { (self.library.display_name)(&raw mut minor, self.handle, &raw mut buffer, null_mut()) };
        let text = self.library.text(buffer);
        self.library.check("cannot read the name", major, minor)?;
        Ok(text)
    }

    /// The user of this host that the name stands for.
    pub(crate) fn local(&self) -> Result<String, GssError> {
        let (mut minor, mut buffer) = (0, RawBuffer::empty());
        // SAFETY: as above; a null mechanism means the name's own.
        let major =
            unsafe { (self.library.local_name)(&raw mut minor, self.handle, null(), &raw mut buffer) };
        let text = self.library.text(buffer);
        self.library.check("no local user", major, minor)?;
        Ok(text)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: owned by this value, released once.
        unsafe { (self.library.release_name)(&raw mut minor, &raw mut self.handle) };
    }
}

/// Credentials of a server.
pub(crate) struct Credentials {
    library: Gssapi,
    handle: Handle,
}

impl Credentials {
    pub(crate) fn library(&self) -> Gssapi {
        self.library
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: owned by this value, released once.
        unsafe { (self.library.release_credentials)(&raw mut minor, &raw mut self.handle) };
    }
}

/// A security context of either side.
pub(crate) struct Context {
    library: Gssapi,
    /// Null before the first call.
    handle: Handle,
}

/// A token for the other side, and whether the context is complete.
pub(crate) type Turn = (Zeroizing<Vec<u8>>, bool);

impl Context {
    /// The initiator's next step, with the user's own tickets; `bindings` name the channel.
    pub(crate) fn init(
        &mut self,
        target: &Name,
        input: Option<&[u8]>,
        bindings: Option<&[u8]>,
    ) -> Result<Turn, GssError> {
        let input = checked(input.unwrap_or_default())?;
        let bindings = bindings.map(RawBindings::of);
        let first = self.handle.is_null();
        let (mut minor, mut output) = (0, RawBuffer::empty());
        // SAFETY: the context and the name are the library's own; the other pointers lead to live
        // values of the right types, or are null where that means the default.
        let major = unsafe {
            (self.library.init_context)(
                &raw mut minor,
                null_mut(),
                &raw mut self.handle,
                target.handle,
                &raw const SPNEGO,
                MUTUAL,
                0,
                bindings.as_ref().map_or(null(), std::ptr::from_ref),
                &raw const input,
                null_mut(),
                &raw mut output,
                null_mut(),
                null_mut(),
            )
        };
        let token = self.library.take(output);
        self.library
            .check(TICKET, major, minor)
            .map_err(|error| match first {
                true => self.library.no_ticket().unwrap_or(error),
                false => error,
            })?;
        Ok((token, major & CONTINUE_NEEDED == COMPLETE))
    }

    /// The acceptor's next step; the initiator's name when the context is complete. An initiator that
    /// binds itself to a channel must have named that of `bindings`. Delegated credentials are not
    /// taken.
    pub(crate) fn accept(
        &mut self,
        keys: &Credentials,
        input: &[u8],
        bindings: Option<&[u8]>,
    ) -> Result<(Turn, Option<Name>), GssError> {
        let input = checked(input)?;
        let bindings = bindings.map(RawBindings::of);
        let (mut minor, mut output, mut name) = (0, RawBuffer::empty(), null_mut());
        // SAFETY: as above.
        let major = unsafe {
            (self.library.accept_context)(
                &raw mut minor,
                &raw mut self.handle,
                keys.handle,
                &raw const input,
                bindings.as_ref().map_or(null(), std::ptr::from_ref),
                &raw mut name,
                null_mut(),
                &raw mut output,
                null_mut(),
                null_mut(),
                null_mut(),
            )
        };
        let token = self.library.take(output);
        let name = (!name.is_null()).then_some(Name {
            library: self.library,
            handle: name,
        });
        if major & ERRORS == BAD_BINDINGS {
            return Err(GssError::Bindings);
        }
        self.library
            .check("the client's ticket is not accepted", major, minor)?;
        let complete = major & CONTINUE_NEEDED == COMPLETE;
        Ok(((token, complete), name.filter(|_| complete)))
    }

    /// When the initiator got its first ticket; only of a complete context.
    pub(crate) fn auth_time(&self) -> Result<SystemTime, GssError> {
        // MIT writes 32 bits, Heimdal 64.
        let (mut minor, mut time) = (0, 0i64);
        // SAFETY: a context of the library, and room for either of the two.
        let major = unsafe { (self.library.extract_auth_time)(&raw mut minor, self.handle, &raw mut time) };
        self.library
            .check("cannot tell the age of the client's ticket", major, minor)?;
        let written = match cfg!(target_endian = "big") && time > i64::from(u32::MAX) {
            true => time >> 32,
            false => time,
        };
        let seconds = u64::try_from(written).unwrap_or(0);
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// Protects the integrity of a message (RFC 2743 §2.3.3).
    pub(crate) fn wrap(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, GssError> {
        let (mut minor, mut output) = (0, RawBuffer::empty());
        let input = RawBuffer::of(message);
        // SAFETY: a context of the library; the other pointers lead to live values.
        let major = unsafe {
            (self.library.wrap)(
                &raw mut minor,
                self.handle,
                0,
                0,
                &raw const input,
                null_mut(),
                &raw mut output,
            )
        };
        let wrapped = self.library.take(output);
        self.library.check("cannot protect a message", major, minor)?;
        Ok(wrapped)
    }

    /// Checks and opens a message of the other side.
    pub(crate) fn unwrap(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, GssError> {
        let (mut minor, mut output) = (0, RawBuffer::empty());
        let input = checked(message)?;
        // SAFETY: as above.
        let major = unsafe {
            (self.library.unwrap)(
                &raw mut minor,
                self.handle,
                &raw const input,
                &raw mut output,
                null_mut(),
                null_mut(),
            )
        };
        let opened = self.library.take(output);
        self.library.check("a forged message", major, minor)?;
        Ok(opened)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            let mut minor = 0;
            // SAFETY: owned by this value, released once.
            unsafe { (self.library.delete_context)(&raw mut minor, &raw mut self.handle, null_mut()) };
        }
    }
}

// SAFETY: both libraries let an object be used by one thread after another.
unsafe impl Send for Name {}
// SAFETY: as above.
unsafe impl Send for Context {}

fn checked(octets: &[u8]) -> Result<RawBuffer, GssError> {
    match octets.len() > TOKEN_MAX {
        true => Err(GssError::Token("the other side's token is too large")),
        false => Ok(RawBuffer::of(octets)),
    }
}
