//! What modules call while one of the library's functions runs: their questions, and the answers, which
//! are theirs to wipe and free.

use std::ffi::{CStr, c_char, c_int, c_void};

use culvert_vocab::SecretString;

use crate::status::{BUF_ERR, CONV_ERR, SUCCESS, SYSTEM_ERR};
use crate::{Conversation, Message};

const PROMPT_ECHO_OFF: c_int = 1;
const PROMPT_ECHO_ON: c_int = 2;
const ERROR_MSG: c_int = 3;
const TEXT_INFO: c_int = 4;

/// Messages in one call of a module (PAM_MAX_NUM_MSG).
const MESSAGES_MAX: usize = 32;
/// Octets of one text that are taken.
const TEXT_MAX: usize = 4096;

#[repr(C)]
pub(super) struct PamMessage {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
pub(super) struct PamResponse {
    text: *mut c_char,
    code: c_int,
}

pub(super) type Converse =
    unsafe extern "C" fn(c_int, *mut *const PamMessage, *mut *mut PamResponse, *mut c_void) -> c_int;

#[repr(C)]
pub(super) struct PamConv {
    pub(super) converse: Converse,
    pub(super) data: *mut c_void,
}

/// What modules call.
pub(super) unsafe extern "C" fn converse<C: Conversation>(
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
pub(super) unsafe fn text(pointer: *const c_char) -> String {
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
    use std::ffi::CString;
    use std::ptr::null_mut;

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
}
