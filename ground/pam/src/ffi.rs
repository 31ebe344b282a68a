//! The library's functions. Everything outside this module is safe code: the handle is owned here,
//! never null where it is used, and ended once.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{null, null_mut};

use culvert_sys::library::Library;
use culvert_vocab::SecretString;

use crate::status::{BUF_ERR, CONV_ERR, SUCCESS, SYSTEM_ERR};
use crate::{Conversation, Item, Message, PamError, Status};

const LIBRARIES: [&str; 2] = ["libpam.so.0", "libpam.so"];

const PROMPT_ECHO_OFF: c_int = 1;
const PROMPT_ECHO_ON: c_int = 2;
const ERROR_MSG: c_int = 3;
const TEXT_INFO: c_int = 4;

const ITEM_USER: c_int = 2;
const ITEM_TTY: c_int = 3;
const ITEM_RHOST: c_int = 4;

const DISALLOW_NULL_AUTHTOK: c_int = 1;
const CHANGE_EXPIRED_AUTHTOK: c_int = 0x20;
const ESTABLISH_CRED: c_int = 2;
const DELETE_CRED: c_int = 4;

/// Messages in one call of a module (PAM_MAX_NUM_MSG).
const MESSAGES_MAX: usize = 32;
/// Octets of one text that are taken.
const TEXT_MAX: usize = 4096;

/// `pam_handle_t`, which only the library looks into.
#[repr(C)]
struct Handle(c_void);

#[repr(C)]
struct PamMessage {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct PamResponse {
    text: *mut c_char,
    code: c_int,
}

type Converse =
    unsafe extern "C" fn(c_int, *mut *const PamMessage, *mut *mut PamResponse, *mut c_void) -> c_int;

#[repr(C)]
struct PamConv {
    converse: Converse,
    data: *mut c_void,
}

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

/// What modules call.
unsafe extern "C" fn converse<C: Conversation>(
    count: c_int,
    messages: *mut *const PamMessage,
    responses: *mut *mut PamResponse,
    data: *mut c_void,
) -> c_int {
    let count = match usize::try_from(count) {
        Ok(count @ 1..=MESSAGES_MAX) if !messages.is_null() && !responses.is_null() => count,
        _ => return CONV_ERR,
    };
    // SAFETY: modules give that many pointers (checked for null below) to messages.
    let messages: Option<Vec<Message>> = unsafe { std::slice::from_raw_parts(messages, count) }
        .iter()
        .map(|message| {
            // SAFETY: as above; the text is a C string or null.
            unsafe { message.as_ref().and_then(|message| read(message)) }
        })
        .collect();
    let Some(messages) = messages else {
        return CONV_ERR;
    };
    // SAFETY: this is what `start` has been given, borrowed for the life of the transaction; modules
    // call from its functions only, and one at a time.
    let conversation = unsafe { &mut *data.cast::<C>() };
    let Some(answers) = conversation.converse(&messages) else {
        return CONV_ERR;
    };
    // SAFETY: calloc of that many responses, all of them zero; checked for null.
    let array = unsafe { libc::calloc(count, size_of::<PamResponse>()) }.cast::<PamResponse>();
    if array.is_null() {
        return BUF_ERR;
    }
    let mut answers = answers.into_iter();
    for (index, _) in messages
        .iter()
        .enumerate()
        .filter(|(_, message)| message.is_question())
    {
        let copy = answers.next().as_ref().map_or(Err(CONV_ERR), copy);
        match copy {
            // SAFETY: `index` is below `count`.
            Ok(copy) => unsafe { (*array.add(index)).text = copy },
            Err(code) => {
                // SAFETY: `array` has `count` responses whose texts are copies or null.
                unsafe { release(array, count) };
                return code;
            }
        }
    }
    // SAFETY: checked for null above. The module frees array and texts.
    unsafe { *responses = array };
    SUCCESS
}

/// # Safety
/// The text is a C string or null.
unsafe fn read(message: &PamMessage) -> Option<Message> {
    // SAFETY: promised by the caller.
    let content = unsafe { text(message.text) };
    match message.style {
        PROMPT_ECHO_ON => Some(Message::Question(content)),
        PROMPT_ECHO_OFF => Some(Message::SecretQuestion(content)),
        ERROR_MSG => Some(Message::Error(content)),
        TEXT_INFO => Some(Message::Info(content)),
        _ => None,
    }
}

/// # Safety
/// `pointer` is a C string or null.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: promised by the caller.
    let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
    String::from_utf8_lossy(bytes.get(..TEXT_MAX).unwrap_or(bytes)).into_owned()
}

/// A copy of an answer that modules wipe and free.
fn copy(answer: &SecretString) -> Result<*mut c_char, c_int> {
    let bytes = answer.expose().as_bytes();
    if bytes.contains(&0) {
        return Err(CONV_ERR);
    }
    // SAFETY: calloc of one octet more than is copied, which ends the string; checked for null.
    unsafe {
        let copy = libc::calloc(bytes.len() + 1, 1);
        if copy.is_null() {
            return Err(SYSTEM_ERR);
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy.cast(), bytes.len());
        Ok(copy.cast())
    }
}

/// # Safety
/// `array` has `count` responses from calloc, whose texts are from calloc or null.
unsafe fn release(array: *mut PamResponse, count: usize) {
    // SAFETY: promised by the caller.
    unsafe {
        for index in 0..count {
            let copy = (*array.add(index)).text;
            if !copy.is_null() {
                libc::explicit_bzero(copy.cast(), libc::strlen(copy));
                libc::free(copy.cast());
            }
        }
        libc::free(array.cast());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers questions with these, and remembers what it was told.
    struct Script {
        answers: Option<Vec<&'static str>>,
        told: Vec<Message>,
    }

    impl Conversation for Script {
        fn converse(&mut self, messages: &[Message]) -> Option<Vec<SecretString>> {
            self.told.extend_from_slice(messages);
            let answers = self.answers.as_ref()?;
            Some(answers.iter().map(|answer| SecretString::from(*answer)).collect())
        }
    }

    /// A module's call: the result, the texts of the responses, and what the script was told.
    fn call(
        messages: &[(c_int, &CStr)],
        count: c_int,
        answers: Option<Vec<&'static str>>,
    ) -> (c_int, Vec<Option<String>>, Vec<Message>) {
        let mut script = Script {
            answers,
            told: Vec::new(),
        };
        let messages: Vec<PamMessage> = messages
            .iter()
            .map(|(style, text)| PamMessage {
                style: *style,
                text: text.as_ptr(),
            })
            .collect();
        let mut pointers: Vec<*const PamMessage> = messages.iter().map(std::ptr::from_ref).collect();
        let mut responses = null_mut();
        let data = (&raw mut script).cast();
        // SAFETY: that many messages, room for one pointer, and the script that this function is for.
        let result = unsafe { converse::<Script>(count, pointers.as_mut_ptr(), &raw mut responses, data) };
        let mut texts = Vec::new();
        if !responses.is_null() {
            for index in 0..messages.len() {
                // SAFETY: as many responses as messages, whose texts are C strings or null.
                texts.push(unsafe {
                    let pointer = (*responses.add(index)).text;
                    (!pointer.is_null()).then(|| text(pointer))
                });
            }
            // SAFETY: they are from calloc, and not used afterwards.
            unsafe { release(responses, messages.len()) };
        }
        (result, texts, script.told)
    }

    #[test]
    fn questions_are_answered_in_order_and_texts_are_not() {
        let (result, texts, told) = call(
            &[
                (PROMPT_ECHO_ON, c"Name:"),
                (TEXT_INFO, c"Hello"),
                (ERROR_MSG, c"Oh"),
                (PROMPT_ECHO_OFF, c"Code:"),
            ],
            4,
            Some(vec!["alice", "123456"]),
        );
        assert_eq!(result, SUCCESS);
        assert_eq!(
            texts,
            [Some("alice".to_owned()), None, None, Some("123456".to_owned())]
        );
        let expected = [
            Message::Question("Name:".to_owned()),
            Message::Info("Hello".to_owned()),
            Message::Error("Oh".to_owned()),
            Message::SecretQuestion("Code:".to_owned()),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_cannot_be_answered_is_an_error() {
        let question = [(PROMPT_ECHO_OFF, c"Code:")];
        for (result, texts, _) in [
            call(&question, 1, None),
            call(&question, 1, Some(Vec::new())),
            call(&question, 1, Some(vec!["nul\0inside"])),
            call(
                &[(PROMPT_ECHO_OFF, c"1"), (PROMPT_ECHO_OFF, c"2")],
                2,
                Some(vec!["one"]),
            ),
            // Binary prompts, and counts that no module has.
            call(&[(7, c"\x01")], 1, Some(vec!["x"])),
            call(&question, 0, Some(vec!["x"])),
            call(&question, -1, Some(vec!["x"])),
            call(&question, 33, Some(vec!["x"])),
        ] {
            assert_eq!((result, texts.len()), (CONV_ERR, 0));
        }
    }

    #[test]
    fn long_and_strange_texts() {
        let long = CString::new(vec![b'x'; 10 * TEXT_MAX]).unwrap();
        let (result, _, told) = call(&[(TEXT_INFO, &long), (TEXT_INFO, c"\xff")], 2, Some(Vec::new()));
        assert_eq!(result, SUCCESS);
        assert_eq!(
            told,
            [
                Message::Info("x".repeat(TEXT_MAX)),
                Message::Info("\u{fffd}".to_owned())
            ]
        );
    }

    #[test]
    fn no_service_of_that_name_is_needed_to_fail() {
        let mut script = Script {
            answers: None,
            told: Vec::new(),
        };
        let pam = Pam::load().unwrap();
        assert!(matches!(
            pam.start("ocserv", "a\0b", &mut script),
            Err(PamError::Nul(_))
        ));
    }
}
