//! The library's functions. Everything outside this module is safe code: the handle is owned here,
//! never null where it is used, and ended once.

mod conversation;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{null, null_mut};

use culvert_sys::library::Library;

use self::conversation::{PamConv, converse, text};
use crate::status::SUCCESS;
use crate::{Conversation, Item, PamError, Status};

const LIBRARIES: [&str; 2] = ["libpam.so.0", "libpam.so"];

const ITEM_USER: c_int = 2;
const ITEM_TTY: c_int = 3;
const ITEM_RHOST: c_int = 4;

const DISALLOW_NULL_AUTHTOK: c_int = 1;
const CHANGE_EXPIRED_AUTHTOK: c_int = 0x20;
const ESTABLISH_CRED: c_int = 2;
const DELETE_CRED: c_int = 4;

/// `pam_handle_t`, which only the library looks into.
#[repr(C)]
struct Handle(c_void);

type Start = unsafe extern "C" fn(*const c_char, *const c_char, *const PamConv, *mut *mut Handle) -> c_int;
type SetItem = unsafe extern "C" fn(*mut Handle, c_int, *const c_void) -> c_int;
type GetItem = unsafe extern "C" fn(*const Handle, c_int, *mut *const c_void) -> c_int;
type StrError = unsafe extern "C" fn(*mut Handle, c_int) -> *const c_char;
/// `pam_end`, and those that do the work.
type Act = unsafe extern "C" fn(*mut Handle, c_int) -> c_int;

/// The loaded library.
#[derive(Clone, Copy)]
pub struct Pam {
    start: Start,
    end: Act,
    set_item: SetItem,
    get_item: GetItem,
    strerror: StrError,
    authenticate: Act,
    acct_mgmt: Act,
    chauthtok: Act,
    setcred: Act,
    open_session: Act,
    close_session: Act,
}

impl Pam {
    /// Loads the library.
    ///
    /// # Errors
    /// It is not there, or is another thing.
    pub fn load() -> Result<Self, PamError> {
        let library = Library::open(&LIBRARIES)?;
        // SAFETY: the types are those of the functions in security/pam_appl.h.
        unsafe {
            Ok(Self {
                start: library
                    .function(c"pam_start")
                    .ok_or(PamError::Function("pam_start"))?,
                end: library
                    .function(c"pam_end")
                    .ok_or(PamError::Function("pam_end"))?,
                set_item: library
                    .function(c"pam_set_item")
                    .ok_or(PamError::Function("pam_set_item"))?,
                get_item: library
                    .function(c"pam_get_item")
                    .ok_or(PamError::Function("pam_get_item"))?,
                strerror: library
                    .function(c"pam_strerror")
                    .ok_or(PamError::Function("pam_strerror"))?,
                authenticate: library
                    .function(c"pam_authenticate")
                    .ok_or(PamError::Function("pam_authenticate"))?,
                acct_mgmt: library
                    .function(c"pam_acct_mgmt")
                    .ok_or(PamError::Function("pam_acct_mgmt"))?,
                chauthtok: library
                    .function(c"pam_chauthtok")
                    .ok_or(PamError::Function("pam_chauthtok"))?,
                setcred: library
                    .function(c"pam_setcred")
                    .ok_or(PamError::Function("pam_setcred"))?,
                open_session: library
                    .function(c"pam_open_session")
                    .ok_or(PamError::Function("pam_open_session"))?,
                close_session: library
                    .function(c"pam_close_session")
                    .ok_or(PamError::Function("pam_close_session"))?,
            })
        }
    }

    /// Begins a login of `user` with the modules of `service`.
    ///
    /// # Errors
    /// There is no such service, or a name has a NUL in it.
    pub fn start<'c, C: Conversation>(
        self,
        service: &str,
        user: &str,
        conversation: &'c mut C,
    ) -> Result<Transaction<'c>, PamError> {
        let (service, user) = (CString::new(service)?, CString::new(user)?);
        let conv = PamConv {
            converse: converse::<C>,
            data: std::ptr::from_mut(conversation).cast(),
        };
        let mut handle = null_mut();
        // SAFETY: the strings are C strings, and the library copies `conv`. Its data stays borrowed
        // as long as the transaction lives.
        let code = unsafe { (self.start)(service.as_ptr(), user.as_ptr(), &raw const conv, &raw mut handle) };
        if code == SUCCESS && !handle.is_null() {
            return Ok(Transaction {
                pam: self,
                handle,
                last: SUCCESS,
                conversation: PhantomData,
            });
        }
        let text = self.text(handle, code);
        Err(PamError::Status(Status { code, text }))
    }

    fn text(self, handle: *mut Handle, code: c_int) -> String {
        // SAFETY: the handle is the library's or null, which this function does not look at; the text is a
        // constant C string or null.
        unsafe { text((self.strerror)(handle, code)) }
    }
}

/// One login. Dropping it lets the modules clean up.
pub struct Transaction<'c> {
    pam: Pam,
    handle: *mut Handle,
    /// Last result, which the modules are told at the end.
    last: c_int,
    /// Modules call it in every function.
    conversation: PhantomData<&'c mut c_void>,
}

impl Transaction<'_> {
    /// Tells the modules something about the login.
    ///
    /// # Errors
    /// The library refuses, or the value has a NUL in it.
    pub fn set(&mut self, item: Item, value: &str) -> Result<(), PamError> {
        let value = CString::new(value)?;
        let number = match item {
            Item::RemoteHost => ITEM_RHOST,
            Item::Terminal => ITEM_TTY,
        };
        // SAFETY: the handle is valid, and the library copies the C string.
        let code = unsafe { (self.pam.set_item)(self.handle, number, value.as_ptr().cast()) };
        self.check(code)
    }

    /// Lets the modules find out whether the user is who he says.
    ///
    /// # Errors
    /// The modules' verdict; also below.
    pub fn authenticate(&mut self) -> Result<(), PamError> {
        self.act(self.pam.authenticate, 0)
    }

    /// Asks the modules whether the user may log in now; `deny_empty_password`: not without a password.
    ///
    /// # Errors
    /// See [`Self::authenticate`].
    pub fn check_account(&mut self, deny_empty_password: bool) -> Result<(), PamError> {
        let flags = if deny_empty_password {
            DISALLOW_NULL_AUTHTOK
        } else {
            0
        };
        self.act(self.pam.acct_mgmt, flags)
    }

    /// Lets the user change the password that has expired.
    ///
    /// # Errors
    /// See [`Self::authenticate`].
    pub fn change_expired_password(&mut self) -> Result<(), PamError> {
        self.act(self.pam.chauthtok, CHANGE_EXPIRED_AUTHTOK)
    }

    /// Lets the modules get what the user may use in his session (tickets, keys). Do this before
    /// [`Self::open_session`].
    ///
    /// # Errors
    /// See [`Self::authenticate`].
    pub fn establish_credentials(&mut self) -> Result<(), PamError> {
        self.act(self.pam.setcred, ESTABLISH_CRED)
    }

    /// Lets the modules destroy what [`Self::establish_credentials`] got.
    ///
    /// # Errors
    /// See [`Self::authenticate`].
    pub fn delete_credentials(&mut self) -> Result<(), PamError> {
        self.act(self.pam.setcred, DELETE_CRED)
    }

    /// Tells the modules that the user's session begins.
    ///
    /// # Errors
    /// The modules do not let it begin.
    pub fn open_session(&mut self) -> Result<(), PamError> {
        self.act(self.pam.open_session, 0)
    }

    /// Tells the modules that the session has ended.
    ///
    /// # Errors
    /// See [`Self::authenticate`].
    pub fn close_session(&mut self) -> Result<(), PamError> {
        self.act(self.pam.close_session, 0)
    }

    /// Name of the user, whom modules may rename; `None` when it is no UTF-8.
    ///
    /// # Errors
    /// The library refuses.
    pub fn user(&mut self) -> Result<Option<String>, PamError> {
        let mut item = null();
        // SAFETY: the handle is valid, and `item` is writable.
        let code = unsafe { (self.pam.get_item)(self.handle, ITEM_USER, &raw mut item) };
        self.check(code)?;
        if item.is_null() {
            return Ok(None);
        }
        // SAFETY: this item is a C string of the library's, which is copied at once.
        let name = unsafe { CStr::from_ptr(item.cast()) };
        Ok(name.to_str().ok().map(str::to_owned))
    }

    fn act(&mut self, function: Act, flags: c_int) -> Result<(), PamError> {
        // SAFETY: the handle is valid, and nothing of this transaction is borrowed while modules run.
        let code = unsafe { function(self.handle, flags) };
        self.check(code)
    }

    fn check(&mut self, code: c_int) -> Result<(), PamError> {
        self.last = code;
        if code == SUCCESS {
            return Ok(());
        }
        let text = self.pam.text(self.handle, code);
        Err(PamError::Status(Status { code, text }))
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is valid and not used afterwards.
        unsafe { (self.pam.end)(self.handle, self.last) };
    }
}

#[cfg(test)]
mod tests {
    use culvert_vocab::SecretString;

    use super::*;
    use crate::Message;

    struct Mute;

    impl Conversation for Mute {
        fn converse(&mut self, _: &[Message]) -> Option<Vec<SecretString>> {
            None
        }
    }

    #[test]
    fn no_service_of_that_name_is_needed_to_fail() {
        let pam = Pam::load().unwrap();
        assert!(matches!(
            pam.start("ocserv", "a\0b", &mut Mute),
            Err(PamError::Nul(_))
        ));
    }
}
