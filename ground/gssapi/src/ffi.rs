//! The library's functions. Everything outside this module is safe code: objects of the library
//! are owned here, released once, and never null where they are used.

mod context;
mod types;

use std::ffi::{CString, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};

use culvert_sys::library::Library;
use zeroize::Zeroizing;

pub(crate) use self::context::Context;
use self::types::{
    AcceptContext, AcquireCredentials, AcquireCredentialsFrom, DeleteContext, DisplayName, DisplayStatus,
    ExtractAuthTime, HOST_BASED_SERVICE, Handle, ImportName, InitContext, KERBEROS, LocalName, OidSet,
    RawBuffer, RegisterKeytab, Release, ReleaseBuffer, SPNEGO, SetNegotiable, Store, StoreElement, Unwrap,
    Wrap, set,
};
use crate::GssError;

/// MIT, then Heimdal.
const LIBRARIES: [&str; 3] = ["libgssapi_krb5.so.2", "libgssapi.so.3", "libgssapi_krb5.so"];

/// Calling and routine errors; the rest is information.
const ERRORS: u32 = 0xffff_0000;
const GSS_CODE: c_int = 1;
const MECH_CODE: c_int = 2;
const USAGE_INITIATE: c_int = 1;
const USAGE_ACCEPT: c_int = 2;
/// What is attempted with the keys of a server.
const KEYTAB: &str = "cannot use the keytab";
/// What is attempted with the tickets of a user.
const TICKET: &str = "no ticket for the service";
/// Most lines of an error's text.
const STATUS_LINES_MAX: usize = 8;

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

// SAFETY: both libraries let an object be used by one thread after another.
unsafe impl Send for Name {}
