//! Smart cards by the PC/SC library of the system, which is loaded at run time.

use std::ffi::{CStr, CString, c_char, c_long, c_ulong};
use std::ptr;

use crate::library::Library;

/// Octets of the longest answer (ISO 7816-4 extended, with its status).
const ANSWER_MAX: usize = 65538;
/// More octets of reader names are not asked for.
const READERS_MAX: c_ulong = 64 * 1024;

const SCOPE_SYSTEM: c_ulong = 2;
const SHARE_SHARED: c_ulong = 2;
const PROTOCOL_T0: c_ulong = 1;
const PROTOCOL_T1: c_ulong = 2;
const LEAVE_CARD: c_ulong = 0;
const SUCCESS: c_long = 0;

/// The library or the card fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PcscError {
    /// There is no PC/SC library.
    #[error("cannot load libpcsclite.so.1: {0}")]
    Library(String),
    /// A function failed.
    #[error("{}", reason(function, *.code))]
    Call {
        /// The function.
        function: &'static str,
        /// SCARD_E_..., SCARD_W_...
        code: u32,
    },
    /// A reader has a name that is no C string.
    #[error("unusable name of a reader")]
    Name,
}

/// In the words of pcsc-lite for what users meet.
fn reason(function: &str, code: u32) -> String {
    let known = match code {
        0x8010_0009 => "Unknown reader specified.",
        0x8010_000b => "Sharing violation.",
        0x8010_000c => "No smart card inserted.",
        0x8010_001d => "Service not available.",
        0x8010_002e => "Cannot find a smart card reader.",
        0x8010_0066 => "Card is not responding to reset.",
        0x8010_0067 => "Card is unpowered.",
        0x8010_0069 => "Card was removed.",
        _ => return format!("{function}: error 0x{code:08x}"),
    };
    known.to_owned()
}

/// SCARD_IO_REQUEST
#[repr(C)]
struct IoRequest {
    protocol: c_ulong,
    len: c_ulong,
}

type Establish =
    unsafe extern "C" fn(c_ulong, *const libc::c_void, *const libc::c_void, *mut c_long) -> c_long;
type Release = unsafe extern "C" fn(c_long) -> c_long;
type ListReaders = unsafe extern "C" fn(c_long, *const c_char, *mut c_char, *mut c_ulong) -> c_long;
type Connect =
    unsafe extern "C" fn(c_long, *const c_char, c_ulong, c_ulong, *mut c_long, *mut c_ulong) -> c_long;
type WithDisposition = unsafe extern "C" fn(c_long, c_ulong) -> c_long;
type Begin = unsafe extern "C" fn(c_long) -> c_long;
type Transmit = unsafe extern "C" fn(
    c_long,
    *const IoRequest,
    *const u8,
    c_ulong,
    *mut IoRequest,
    *mut u8,
    *mut c_ulong,
) -> c_long;

#[derive(Clone, Copy)]
struct Functions {
    establish: Establish,
    release: Release,
    list_readers: ListReaders,
    connect: Connect,
    disconnect: WithDisposition,
    begin: Begin,
    end: WithDisposition,
    transmit: Transmit,
}

/// A connection to the PC/SC service.
pub struct Readers {
    functions: Functions,
    context: c_long,
}

/// A card in a reader, in a transaction that keeps other programs away.
pub struct Card<'a> {
    readers: &'a Readers,
    handle: c_long,
    protocol: c_ulong,
}

fn check(function: &'static str, code: c_long) -> Result<(), PcscError> {
    match code {
        SUCCESS => Ok(()),
        // Error codes have 32 bits, whatever the size of a LONG.
        code => Err(PcscError::Call {
            function,
            code: code as u32,
        }),
    }
}

impl Functions {
    fn load() -> Result<Self, PcscError> {
        let library =
            Library::open(&["libpcsclite.so.1"]).map_err(|error| PcscError::Library(error.reason))?;
        let absent = |name: &str| PcscError::Library(format!("it has no {name}"));
        // SAFETY: the signatures of winscard.h and pcsclite.h, where DWORD is unsigned long and LONG long.
        unsafe {
            Ok(Self {
                establish: library
                    .function(c"SCardEstablishContext")
                    .ok_or_else(|| absent("SCardEstablishContext"))?,
                release: library
                    .function(c"SCardReleaseContext")
                    .ok_or_else(|| absent("SCardReleaseContext"))?,
                list_readers: library
                    .function(c"SCardListReaders")
                    .ok_or_else(|| absent("SCardListReaders"))?,
                connect: library
                    .function(c"SCardConnect")
                    .ok_or_else(|| absent("SCardConnect"))?,
                disconnect: library
                    .function(c"SCardDisconnect")
                    .ok_or_else(|| absent("SCardDisconnect"))?,
                begin: library
                    .function(c"SCardBeginTransaction")
                    .ok_or_else(|| absent("SCardBeginTransaction"))?,
                end: library
                    .function(c"SCardEndTransaction")
                    .ok_or_else(|| absent("SCardEndTransaction"))?,
                transmit: library
                    .function(c"SCardTransmit")
                    .ok_or_else(|| absent("SCardTransmit"))?,
            })
        }
    }
}

impl Readers {
    /// Connects to the service.
    ///
    /// # Errors
    /// There is no library or no service.
    pub fn open() -> Result<Self, PcscError> {
        let functions = Functions::load()?;
        let mut context = 0;
        // SAFETY: `context` is written; the reserved arguments are null.
        let code = unsafe { (functions.establish)(SCOPE_SYSTEM, ptr::null(), ptr::null(), &mut context) };
        check("SCardEstablishContext", code)?;
        Ok(Self { functions, context })
    }

    /// Names of the readers.
    ///
    /// # Errors
    /// The service fails, also when there is no reader.
    pub fn names(&self) -> Result<Vec<String>, PcscError> {
        let list = |buffer: *mut c_char, len: &mut c_ulong| {
            // SAFETY: a null buffer asks for the length only, another has `len` octets.
            let code = unsafe { (self.functions.list_readers)(self.context, ptr::null(), buffer, len) };
            check("SCardListReaders", code)
        };
        let mut len = 0;
        list(ptr::null_mut(), &mut len)?;
        len = len.min(READERS_MAX);
        let mut names = vec![0_u8; len as usize];
        list(names.as_mut_ptr().cast(), &mut len)?;
        names.truncate(len as usize);
        let names = names.split(|octet| *octet == 0).filter(|name| !name.is_empty());
        Ok(names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect())
    }

    /// Connects to the card in a reader and begins a transaction.
    ///
    /// # Errors
    /// There is no card, or the service fails.
    pub fn card(&self, reader: &str) -> Result<Card<'_>, PcscError> {
        let name = CString::new(reader).map_err(|_| PcscError::Name)?;
        let name: &CStr = &name;
        let (mut handle, mut protocol) = (0, 0);
        // SAFETY: `name` is a C string; `handle` and `protocol` are written.
        let code = unsafe {
            (self.functions.connect)(
                self.context,
                name.as_ptr(),
                SHARE_SHARED,
                PROTOCOL_T0 | PROTOCOL_T1,
                &mut handle,
                &mut protocol,
            )
        };
        check("SCardConnect", code)?;
        // SAFETY: `handle` is that of a card.
        let code = unsafe { (self.functions.begin)(handle) };
        let card = Card {
            readers: self,
            handle,
            protocol,
        };
        check("SCardBeginTransaction", code)?;
        Ok(card)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        // SAFETY: `context` is open; no card of it is left.
        unsafe { (self.functions.release)(self.context) };
    }
}

impl Card<'_> {
    /// Sends a command and gives the answer with its status.
    ///
    /// # Errors
    /// The card is gone, or the service fails.
    pub fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, PcscError> {
        let request = IoRequest {
            protocol: self.protocol,
            len: size_of::<IoRequest>() as c_ulong,
        };
        let mut answer = vec![0; ANSWER_MAX];
        let mut len = answer.len() as c_ulong;
        // SAFETY: `command` has the length given, `answer` has room for `len` octets.
        let code = unsafe {
            (self.readers.functions.transmit)(
                self.handle,
                &request,
                command.as_ptr(),
                command.len() as c_ulong,
                ptr::null_mut(),
                answer.as_mut_ptr(),
                &mut len,
            )
        };
        check("SCardTransmit", code)?;
        answer.truncate(len as usize);
        Ok(answer)
    }
}

impl Drop for Card<'_> {
    fn drop(&mut self) {
        // SAFETY: `handle` is open; ending a transaction that was not begun is an error and no more.
        unsafe {
            (self.readers.functions.end)(self.handle, LEAVE_CARD);
            (self.readers.functions.disconnect)(self.handle, LEAVE_CARD);
        }
    }
}
